"""From types to Python expressions: the source of the generated decoders.

Everything static is one ``struct.unpack`` and one expression: a head is described by a :class:`Head`, a piece of a
struct format, the names that its parts get, and an expression over these names that checks and converts. What is
dynamic is a call of a generated function or of :mod:`indexer.abi.decoder`. Nothing that the ABI says gets into the
source but as a literal or number.

In every generated function ``data`` is the log's data, ``base`` where the enclosing tuple or array begins (offsets
count from there), ``left`` the work that may still be done and ``notes`` what was altered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from indexer.abi.names import argument_names
from indexer.abi.types import NUMBER_BITS, WORD, Array, Elementary, Parameter, Tuple, Type

PRELUDE = """\
from struct import Struct, error as StructError

from indexer.abi.decoder import UndecodableLog, fail, reach, read_bytes, read_text, scaled, scaled_text, span

number = int.from_bytes
"""


@dataclass(frozen=True, slots=True)
class Head:
    """How a value is read where it stands.

    Attributes:
        format: its piece of a struct format.
        names: of the parts that the struct yields, in order.
        expression: over these names: the checked value.
    """

    format: str
    names: tuple[str, ...]
    expression: str


class Generator:
    """Collects the source of one decoder.

    Attributes:
        constants: lines that define structs.
        functions: source of the functions for dynamic types.
    """

    def __init__(self) -> None:
        self.constants: list[str] = []
        self.functions: list[str] = []
        self._structs: dict[str, str] = {}
        self._count = 0

    def source(self, main: Iterable[str]) -> str:
        """The whole module, ``main`` being the lines of its last function."""
        return "\n".join([PRELUDE, *self.constants, *self.functions, "", *main, ""])

    def fresh(self, prefix: str) -> str:
        """A name that is not used yet."""
        self._count += 1
        return f"{prefix}{self._count}"

    def struct(self, form: str, method: str) -> str:
        """The name of a bound method of the struct of this format (big-endian, without gaps)."""
        line = f'Struct(">{form}").{method}'
        if line not in self._structs:
            name = self._structs[line] = self.fresh(f"{method}_")
            self.constants.append(f"{name} = {line}")
        return self._structs[line]

    def head(self, of: Type, path: str, *, json: bool) -> Head:
        """Read a value where it stands.

        Args:
            of: its type.
            path: the argument, for reasons.
            json: whether it stands inside a jsonb column: bytes are hex there, and numbers decimal strings
                where their type is wider than NUMBER_BITS.
        """
        if of.is_dynamic:
            offset = self.fresh("offset")
            return Head("32s", (offset,), self.tail(of, f"base + number({offset})", path, json=json))
        match of:
            case Elementary():
                return self.word(of, path, json=json)
            case Array():
                raw = self.fresh("raw")
                items = self._items(of.item, raw, path, json=json)
                return Head(f"{of.head_size}s", (raw,), items)
            case Tuple():
                heads = [self.head(c.type, f"{path}.{n}", json=json) for n, c in named(of.components)]
                return Head(
                    "".join(h.format for h in heads),
                    tuple(name for h in heads for name in h.names),
                    _object((n for n, _ in named(of.components)), heads),
                )

    def word(self, of: Elementary, path: str, *, json: bool = False) -> Head:
        """Read an elementary value that fits into one word, from data or from a topic.

        A word with bits that the type does not have is refused, as Solidity's own decoder refuses it: which part of it
        was meant cannot be known.
        """
        match of.kind:
            case "address":
                form, names, raw = self._padded(of.size, path, left="an address", json=json)
            case "bytesN" | "function":
                form, names, raw = self._padded(of.size, path, left=None, json=json, what=of.canonical)
            case "bool":
                form, names = "32s", (self.fresh("word"),)
                raw = (
                    f"({names[0]} == {_ONE!r} or ({names[0]} != {_ZERO!r}"
                    f" and fail({_reason(path, 'a bool that is neither 0 nor 1')})))"
                )
            case _:
                form, names, raw = self._integer(of, path)
                if of.places:
                    raw = f"{'scaled_text' if json else 'scaled'}({raw}, {of.places})"
                elif json and of.size > NUMBER_BITS:
                    raw = f"str({raw})"
        return Head(form, names, raw)

    def _padded(
        self, size: int, path: str, *, left: str | None, json: bool, what: str = ""
    ) -> tuple[str, tuple[str, ...], str]:
        value, padding = self.fresh("value"), self.fresh("padding")
        shown = f'"0x" + {value}.hex()' if json else value
        if size == WORD:
            return "32s", (value,), f"({shown})"
        forms, names = [f"{size}s", f"{WORD - size}s"], [value, padding]
        if left:
            forms.reverse()
            names.reverse()
        reason = _reason(path, f"{left or what} with bytes in its padding")
        return "".join(forms), tuple(names), f"({shown} if {padding} == {bytes(WORD - size)!r} else fail({reason}))"

    def _integer(self, of: Elementary, path: str) -> tuple[str, tuple[str, ...], str]:
        word, x = self.fresh("word"), self.fresh("number")
        signed = of.kind in ("int", "fixed")
        bits = of.size
        if not signed and bits == 256:
            return "32s", (word,), f"number({word})"
        read = f"({x} := number({word}))"
        refused = f"fail({_reason(path, f'a number that is no {of.canonical}')})"
        if not signed:
            return "32s", (word,), f"({x} if {read} < {2**bits:#x} else {refused})"
        # Negative numbers have all bits above theirs set.
        lowest = 2**256 - 2 ** (bits - 1)
        otherwise = f"{x} - {2**256:#x}"
        if bits < 256:
            otherwise = f"({otherwise} if {x} >= {lowest:#x} else {refused})"
        return "32s", (word,), f"({x} if {read} < {2 ** (bits - 1):#x} else {otherwise})"

    def _items(self, item: Type, raw: str, path: str, *, json: bool) -> str:
        """The list of the items that stand, one after the other, in the bytes that the expression ``raw`` gives."""
        head = self.head(item, f"{path}[]", json=json)
        iterate = self.struct(head.format, "iter_unpack")
        return f"[{head.expression} for {_unpacked(head.names)} in {iterate}({raw})]"

    def tail(self, of: Type, at: str, path: str, *, json: bool) -> str:
        """The expression that reads a dynamic value.

        Args:
            of: its type.
            at: the expression of the absolute position at which its encoding begins.
            path: the argument, for reasons.
            json: see :meth:`head`.
        """
        if isinstance(of, Elementary):
            if of.kind == "string":
                return f"read_text(data, {at}, left, notes, {path!r})"
            raw = f"read_bytes(data, {at}, left, {path!r})"
            return f'("0x" + {raw}.hex())' if json else raw
        body = self._array_body(of, path, json=json) if isinstance(of, Array) else self._tuple_body(of, path)
        name = self.fresh("read")
        self.functions.append("\n    ".join([f"\ndef {name}(data, at, left, notes):", *body]))
        return f"{name}(data, {at}, left, notes)"

    def _array_body(self, of: Array, path: str, *, json: bool) -> list[str]:
        if of.length is None:
            lines = [f"base, end = span(data, at, {of.item.head_size}, left, {path!r})"]
        else:
            size = of.length * of.item.head_size
            lines = ["base = at", f"end = at + {size}", f"reach(data, at, {size}, left, {path!r})"]
        return [*lines, f"return {self._items(of.item, 'data[base:end]', path, json=json)}"]

    def _tuple_body(self, of: Tuple, path: str) -> list[str]:
        heads = [self.head(c.type, f"{path}.{name}", json=True) for name, c in named(of.components)]
        form = "".join(h.format for h in heads)
        size = sum(c.type.head_size for c in of.components)
        return [
            "base = at",
            f"reach(data, at, {size}, left, {path!r})",
            f"{_unpacked(n for h in heads for n in h.names)} = {self.struct(form, 'unpack_from')}(data, at)",
            f"return {_object((name for name, _ in named(of.components)), heads)}",
        ]


def named(parameters: Sequence[Parameter]) -> list[tuple[str, Parameter]]:
    """The parameters with the unique names that they have in the API."""
    return list(zip(argument_names(p.name for p in parameters), parameters, strict=True))


def is_json(of: Type) -> bool:
    """Whether a value of this type is kept as jsonb: a tuple, or an array of anything but elementary values."""
    return isinstance(of, Tuple) or (isinstance(of, Array) and not isinstance(of.item, Elementary))


def _object(names: Iterable[str], heads: Iterable[Head]) -> str:
    return "{" + ", ".join(f"{n!r}: {h.expression}" for n, h in zip(names, heads, strict=True)) + "}"


def _unpacked(names: Iterable[str]) -> str:
    return "(" + "".join(f"{name}, " for name in names) + ")"


def _reason(path: str, what: str) -> str:
    return repr(f"argument {path}: {what}")


_ZERO = bytes(WORD)
_ONE = bytes(WORD - 1) + b"\1"
