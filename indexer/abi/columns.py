"""Columns: how an argument of an event, or an output of a function, is kept in Postgres and shown by the API.

A pure description, light to import: the store makes tables of it and keeps it in the catalog
(``gapless.events.columns``), the API reads it there. The decoder gives values in the same order and of the same types.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, Protocol

from indexer.abi.names import argument_names, column_name
from indexer.abi.types import NUMBER_BITS, Array, Elementary, Parameter, Tuple, Type


class FixedColumn(NamedTuple):
    """A column that all tables of a kind have.

    Attributes:
        name: in Postgres.
        pg_type: its type there.
        comment: for a person in psql.
    """

    name: str
    pg_type: str
    comment: str


# chain_id is bigint: ids above 2^31 are in use (Palm is 11297108109).
_CHAIN_ID = FixedColumn("chain_id", "bigint", "EIP-155 chain id")
_BLOCK_TIME = FixedColumn("block_time", "timestamptz", "the block's timestamp")

FIXED_COLUMNS: Final = (
    _CHAIN_ID,
    FixedColumn("block_number", "bigint", "block that bore the log"),
    _BLOCK_TIME,
    FixedColumn("tx_hash", "bytea", "hash of the transaction, 32 bytes; gapless.hex shows it"),
    FixedColumn("tx_index", "bigint", "place of the transaction in the block"),
    FixedColumn("log_index", "bigint", "place of the log in the block"),
    FixedColumn(
        "contract_address",
        "bytea",
        "who emitted the log, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    ),
)
"""The columns with which every event table begins. :func:`fixed_values` has their values in this order."""

POSITION_OF: Final = {column.name: position for position, column in enumerate(FIXED_COLUMNS)}
"""The position of each of them in a row, by name."""

SERIES_COLUMNS: Final = (
    _CHAIN_ID,
    FixedColumn("block_number", "bigint", "block at which all calls of the row were made"),
    _BLOCK_TIME,
    FixedColumn("contract_address", "bytea", "the contract that was asked, 20 bytes"),
    FixedColumn("item", "integer", "place in the list of arguments, 0 where there is only one"),
    FixedColumn(
        "arguments", "jsonb", "the arguments of the calls, by the names of the snapshot's query; null: fixed ones"
    ),
)
"""The columns with which the table of every snapshot series begins."""

SERIES_FAILURES: Final = FixedColumn("failures", "jsonb", "reasons of the calls that failed, by signature; null: none")
"""The column with which it ends."""


def fixed_values(
    *,
    chain_id: Any,
    block_number: Any,
    block_time: Any,
    tx_hash: Any,
    tx_index: Any,
    log_index: Any,
    contract_address: Any,
) -> tuple[Any, ...]:
    """The values of :data:`FIXED_COLUMNS`, of one log or columns of many, in their order."""
    return (chain_id, block_number, block_time, tx_hash, tx_index, log_index, contract_address)


ScalarRendering = Literal["hex", "integer", "string_integer", "string_decimal", "bool", "text"]
"""How the API renders one value: ``integer`` as a number, ``string_...`` as digits in a string."""

ListRendering = Literal["hex[]", "integer[]", "string_integer[]", "string_decimal[]", "bool[]", "text[]"]
"""How it renders an array of them."""

Rendering = ScalarRendering | ListRendering | Literal["json"]
"""Of any column; ``json``: as it is stored."""

_LISTS: Final[Mapping[ScalarRendering, ListRendering]] = {
    "hex": "hex[]",
    "integer": "integer[]",
    "string_integer": "string_integer[]",
    "string_decimal": "string_decimal[]",
    "bool": "bool[]",
    "text": "text[]",
}


@dataclass(frozen=True, slots=True)
class Component:
    """A component of a tuple inside a jsonb column.

    Attributes:
        name: its key in the object.
        abi_type: its canonical type.
        components: its own components, where it is a tuple or holds tuples.
    """

    name: str
    abi_type: str
    components: "tuple[Component, ...]" = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One argument's column.

    Attributes:
        name: in Postgres, unique in its table.
        argument: in the API, unique in its event: the ABI's name, ``arg0`` where that is empty.
        abi_type: canonical type, such as ``uint256`` or ``(address,uint256)[]``.
        pg_type: ``numeric(78,0)``, ``bytea[]``...
        indexed: whether it is a topic of the log.
        hashed: whether it is only the value's hash (an indexed argument that does not fit into a topic).
        rendering: how the API renders it, and by that what may be asked of it. Its readers name every rendering, so
            that a new one is an error of types in each of them.
        comment: for a person in psql.
        components: what the tuples of a jsonb column consist of.
    """

    name: str
    argument: str
    abi_type: str
    pg_type: str
    indexed: bool
    hashed: bool
    rendering: Rendering
    comment: str
    components: tuple[Component, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object, for the catalog, where the rendering bears the name ``json``."""
        fields = {f: getattr(self, f) for f in self.__dataclass_fields__}
        fields["json"] = fields.pop("rendering")
        return {**fields, "components": [_component_to_json(c) for c in self.components]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Column":
        """The column that :meth:`to_json` wrote."""
        fields = dict(document)
        fields["rendering"] = fields.pop("json")
        components = tuple(_component_from_json(c) for c in document.get("components", ()))
        return cls(**{**fields, "components": components})


class HasInputs(Protocol):
    """An event, as far as its columns are concerned (:class:`indexer.abi.model.Event`)."""

    @property
    def inputs(self) -> tuple[Parameter, ...]:
        """Its arguments, in order."""


class HasOutputs(Protocol):
    """A function, as far as its columns are concerned (:class:`indexer.abi.model.Function`)."""

    @property
    def name(self) -> str:
        """As in the ABI."""

    @property
    def outputs(self) -> tuple[Parameter, ...]:
        """What it returns, in order."""


def event_columns(event: HasInputs, kept: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns of an event's arguments, in the ABI's order.

    Args:
        event: the event.
        kept: column names chosen before, by position: they never change.
    """
    return _columns(event.inputs, argument_names(p.name for p in event.inputs), set(POSITION_OF), kept)


def output_columns(
    function: HasOutputs, kept: Sequence[str] = (), taken: Collection[str] = (), called: str | None = None
) -> tuple[Column, ...]:
    """The columns of a function's outputs. A single output is named like its function: ``totalSupply``.

    Args:
        function: the function.
        kept: column names chosen before, by position: they never change.
        taken: columns of the other functions in the same series.
        called: the call's own name, in place of the function's, and before the names of several outputs.
    """
    if len(function.outputs) == 1:
        names: tuple[str, ...] = (called or function.name,)
    else:
        names = tuple(argument_names(p.name for p in function.outputs))
        names = tuple(f"{called}_{name}" for name in names) if called else names
    plain = [replace(p, indexed=False) for p in function.outputs]
    return _columns(plain, names, {*(column.name for column in (*SERIES_COLUMNS, SERIES_FAILURES)), *taken}, kept)


def _columns(
    parameters: Sequence[Parameter], arguments: Sequence[str], taken: set[str], kept: Sequence[str]
) -> tuple[Column, ...]:
    taken |= set(kept)
    columns = []
    for position, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True)):
        if position < len(kept):
            name = kept[position]
        else:
            name = column_name(argument, position, parameter.type.canonical, taken)
            taken.add(name)
        columns.append(_column(name, argument, parameter))
    return tuple(columns)


def _column(name: str, argument: str, parameter: Parameter) -> Column:
    pg_type, rendering = Storage("bytea", "hex") if parameter.is_hashed else storage(parameter.type)
    comment = f"{described(parameter.type)} {argument}"
    if parameter.is_hashed:
        comment += ", indexed: the keccak-256 hash of the value"
    elif parameter.indexed:
        comment += ", indexed"
    return Column(
        name=name,
        argument=argument,
        abi_type=parameter.type.canonical,
        pg_type=pg_type,
        indexed=parameter.indexed,
        hashed=parameter.is_hashed,
        rendering=rendering,
        comment=comment,
        components=() if parameter.is_hashed else _components(parameter.type),
    )


def kept_parameters(parameters: Sequence[Parameter], columns: Sequence[Column]) -> tuple[Parameter, ...]:
    """Parameters whose tuples have the components' names that their columns began with.

    Args:
        parameters: as an ABI names them now.
        columns: theirs, in the same order.
    """
    return tuple(
        replace(parameter, type=_with_names(parameter.type, column.components))
        for parameter, column in zip(parameters, columns, strict=True)
    )


def _with_names(of: Type, components: Sequence[Component]) -> Type:
    if isinstance(of, Array):
        return replace(of, item=_with_names(of.item, components))
    if not isinstance(of, Tuple) or not components:
        return of
    return Tuple(
        tuple(
            replace(parameter, name=component.name, type=_with_names(parameter.type, component.components))
            for parameter, component in zip(of.components, components, strict=True)
        )
    )


class Storage(NamedTuple):
    """How a value is kept, and how the API renders it."""

    pg_type: str
    rendering: Rendering


def storage(of: Type) -> Storage:
    """The Postgres type of a value and how the API renders it."""
    match of:
        case Elementary():
            return Storage(*_elementary_storage(of))
        case Array(item=Elementary() as item):
            pg_type, rendering = _elementary_storage(item)
            return Storage(f"{pg_type}[]", _LISTS[rendering])
        case _:
            # A ragged array of arrays is no Postgres array, and a tuple is no scalar.
            return Storage("jsonb", "json")


def _elementary_storage(of: Elementary) -> tuple[str, ScalarRendering]:
    match of.kind:
        case "uint" | "int":
            return _integer_type(of), "integer" if of.size <= NUMBER_BITS else "string_integer"
        case "ufixed" | "fixed":
            digits = len(str(2 ** (of.size - (of.kind == "fixed"))))
            return f"numeric({max(digits, of.places)},{of.places})", "string_decimal"
        case "bool":
            return "boolean", "bool"
        case "string":
            return "text", "text"
        case "address" | "bytesN" | "bytes" | "function":
            return "bytea", "hex"


def _integer_type(of: Elementary) -> str:
    """The smallest type that holds every value: Postgres has signed ones only."""
    bits = of.size + (of.kind == "uint")
    return "smallint" if bits <= 16 else "integer" if bits <= 32 else "bigint" if bits <= 64 else "numeric(78,0)"


def described(of: Type) -> str:
    """The type for a person: as in a signature, but with the components' names."""
    match of:
        case Array():
            return f"{described(of.item)}[{'' if of.length is None else of.length}]"
        case Tuple():
            return f"({', '.join(f'{described(c.type)} {c.name}'.rstrip() for c in of.components)})"
        case Elementary():
            return of.canonical


def _components(of: Type) -> tuple[Component, ...]:
    while isinstance(of, Array):
        of = of.item
    if not isinstance(of, Tuple):
        return ()
    names = argument_names(c.name for c in of.components)
    return tuple(
        Component(name, c.type.canonical, _components(c.type)) for name, c in zip(names, of.components, strict=True)
    )


def _component_to_json(component: Component) -> dict[str, Any]:
    nested = [_component_to_json(c) for c in component.components]
    return {"name": component.name, "abi_type": component.abi_type, "components": nested}


def _component_from_json(document: Mapping[str, Any]) -> Component:
    nested = tuple(_component_from_json(c) for c in document.get("components", ()))
    return Component(document["name"], document["abi_type"], nested)
