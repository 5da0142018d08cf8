"""Query parameters: one pydantic model a path drives reading, checking and the OpenAPI document.

A parameter that is unknown, or given twice, is refused: a typo in a filter must not answer unfiltered data. A list
alone may be given value by value, as many clients write one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Final, Protocol, Self
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from api.errors import MAX_NAME, MAX_PROBLEMS, ApiError, Problem
from api.values import BadValueError, Kind

#: Characters of a name that :func:`one_of` believes.
_MOST_NAME: Final = 100
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")


class Parameters(BaseModel):
    """The query parameters of a path: these and no others.

    Each field is ``Annotated`` with the :class:`~api.values.Kind` of its text. Its name in the URL is its alias, where
    it has one. None means that the parameter is left out.
    """

    # Most models of events are described more often than they are read: a validator is built at the first reading.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    #: By name of a field: the parameter's name in the URL.
    _shown: ClassVar[Mapping[str, str]] = {}
    #: The names in the URL of those that are lists.
    _lists: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read(cls, query_string: str) -> Self:
        """Read a query string.

        Raises:
            ApiError: INVALID_PARAMETER and UNKNOWN_PARAMETER; it lists the first problems and says how many there are.
        """
        problems: list[Problem] = []
        texts: dict[str, str] = {}
        for name, text in _pairs(query_string, problems):
            if name in texts and name in cls._lists:
                texts[name] += f",{text}"
            elif name in texts:
                problems.append(Problem(name, "is given twice", "UNKNOWN_PARAMETER"))
            else:
                texts[name] = text
        try:
            found = cls.model_validate(texts)
        except ValidationError as error:
            found_wrong = error.errors(include_url=False, include_input=False)
            # A sentence for each takes time, and of thousands a reader needs only the first.
            room = max(1, MAX_PROBLEMS - len(problems))
            problems += cls._problems(found_wrong[:room])
            raise ApiError.invalid(problems, more=len(found_wrong[room:])) from None
        if problems:
            raise ApiError.invalid(problems)
        return found

    def given(self) -> dict[str, Any]:
        """The values that were given or have a default, by their names in the URL."""
        values = self.__dict__
        return {shown: value for name, shown in self._shown.items() if (value := values[name]) is not None}

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._shown = {name: field.alias or name for name, field in cls.model_fields.items()}
        cls._lists = frozenset(cls._shown[name] for name, field in cls.model_fields.items() if _is_list(_kind(field)))

    @classmethod
    def names(cls) -> list[str]:
        """The names in the URL."""
        return list(cls._shown.values())

    @classmethod
    def openapi(cls) -> list[dict[str, Any]]:
        """The parameter objects of the OpenAPI document."""
        return [_of_field(field.alias or name, field) for name, field in cls.model_fields.items()]

    @classmethod
    def _problems(cls, wrong: Sequence[Any]) -> list[Problem]:
        problems = []
        names_told = False
        for found in wrong:
            name = str(found["loc"][0])
            match found["type"]:
                case "extra_forbidden":
                    message, told_now = cls._unknown(name, names_told=names_told)
                    names_told = names_told or told_now
                    problems.append(Problem(name, message, "UNKNOWN_PARAMETER"))
                case "missing":
                    problems.append(Problem(name, "is required"))
                case _:
                    error = found["ctx"]["error"]
                    code = error.code if isinstance(error, BadValueError) else "INVALID_PARAMETER"
                    problems.append(Problem(name, str(error), code))
        return problems

    @classmethod
    def _unknown(cls, name: str, *, names_told: bool) -> tuple[str, bool]:
        """What to say of a parameter that there is not, and whether that tells all names."""
        known = cls.names()
        if not known:
            return "is not a parameter here: this path takes none", False
        if close := get_close_matches(name[:MAX_NAME], known, n=1):
            return f"is not a parameter here; did you mean {close[0]}?", False
        if names_told:
            return "is not a parameter here", False
        return f"is not a parameter here; there are {', '.join(known)}", True


class Extra(Protocol):
    """A parameter that is known at run time only, such as the filter on an argument of an event."""

    @property
    def name(self) -> str:
        """In the URL."""

    @property
    def kind(self) -> Kind[Any]:
        """How its value is written."""

    @property
    def description(self) -> str:
        """For the OpenAPI document."""


def joined(name: str, *parts: type[Parameters], extras: Iterable[Extra] = ()) -> type[Parameters]:
    """A model with the parameters of several models.

    Args:
        name: of the model.
        parts: the models; the document shows their parameters in this order.
        extras: further parameters.
    """
    # Pydantic collects the fields of the last base first.
    bases = tuple(reversed(parts)) or (Parameters,)
    # Any name of an argument becomes one that Python takes, and no two the same.
    fields: dict[str, Any] = {
        f"extra_{one.name.encode().hex()}": (
            Annotated[Any, one.kind],
            Field(None, alias=one.name, description=one.description),
        )
        for one in extras
    }
    return create_model(name, __base__=bases, **fields)


def parted(query_string: str, prefix: str) -> tuple[str, str]:
    """The parameters whose names begin so, and the others, each as a query string."""
    mine: list[str] = []
    others: list[str] = []
    for pair in query_string.split("&"):
        name = unquote_to_bytes(pair.partition("=")[0].replace("+", " "))
        (mine if name.startswith(prefix.encode()) else others).append(pair)
    return "&".join(mine), "&".join(others)


def _kind(field: FieldInfo) -> Kind[Any]:
    return next(item for item in field.metadata if isinstance(item, Kind))


def _is_list(kind: Kind[Any]) -> bool:
    return kind.schema.get("type") == "array"


def _of_field(name: str, field: FieldInfo) -> dict[str, Any]:
    document = _described(name, _kind(field), field.description or "")
    if isinstance(field.default, int | str):
        document["schema"]["default"] = field.default
    if field.is_required():
        document["required"] = True
    return document


def _described(name: str, kind: Kind[Any], description: str) -> dict[str, Any]:
    schema = dict(kind.schema)
    document: dict[str, Any] = {"name": name, "in": "query", "description": description, "schema": schema}
    if _is_list(kind):
        document |= {"style": "form", "explode": False}
    return document


def _pairs(query_string: str, problems: list[Problem]) -> list[tuple[str, str]]:
    pairs = []
    for part in query_string.split("&") if query_string else ():
        name, _, value = part.partition("=")
        try:
            pairs.append((_decode(name), _decode(value)))
        except ValueError:
            problems.append(Problem(name, "is not percent-encoded UTF-8"))
    return pairs


def one_of(query_string: str, name: str) -> str | None:
    """The text of one parameter before all are read; None where it is left out, or will be refused."""
    if name not in query_string and "%" not in query_string:
        return None
    found = dict(_pairs(query_string, [])).get(name)
    return found if found and len(found) <= _MOST_NAME else None


def _decode(text: str) -> str:
    if "%" not in text and "+" not in text and text.isascii():
        return text
    if _BAD_ESCAPE.search(text):
        raise ValueError("a percent sign that begins no escape")
    # WSGI hands over bytes dressed as latin-1.
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8")
