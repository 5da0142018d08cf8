"""Decoders: a function for each event, generated once from its ABI, and what the generated functions call.

The decoder never guesses and never stops the line: a log that does not have the event's shape raises
:class:`UndecodableLog`, whatever is in it, in a time that grows with its size only: the reading of tails is bounded.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias

from indexer.abi.codegen import Generator, Head, is_json, named
from indexer.abi.model import Event, Function
from indexer.abi.types import Parameter, heads_size
from indexer.errors import GaplessError

WORK_FACTOR = 4
"""How many times a log's bytes may be read. An encoder's output reads each byte once; offsets that share a tail are
valid, but arrays of offsets to one another grow exponentially (2.5 KB kept a naive decoder busy for seconds)."""

_word = int.from_bytes

Values: TypeAlias = tuple[Any, ...]


class UndecodableLog(GaplessError):  # noqa: N818 - an outcome, named like one
    """A log that bears an event's topic but not its shape.

    Attributes:
        reason: why, for ``gapless.undecoded_logs``. It names no value of the log (that is kept raw), so that logs can
            be grouped by it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def fail(reason: str) -> NoReturn:
    """Raise :class:`UndecodableLog`, where an expression is needed."""
    raise UndecodableLog(reason)


def reach(data: bytes, at: int, size: int, left: list[int], path: str) -> None:
    """Check that ``size`` bytes can be read at ``at``, and charge them.

    Args:
        data: the log's data.
        at: absolute position, of any size: offsets are what the log says.
        size: bytes.
        left: one number: the bytes that may still be read.
        path: the argument, for the reason.

    Raises:
        UndecodableLog: they lie outside the data, or too much was read already.
    """
    if at + size > len(data):
        raise _beyond(path)
    left[0] -= size
    if left[0] < 0:
        raise _too_much(path)


def span(data: bytes, at: int, item_size: int, left: list[int], path: str) -> tuple[int, int]:
    """First and last position (exclusive) of the items of a dynamic array whose length word stands at ``at``.

    Args:
        data: the log's data.
        at: absolute position of the length word.
        item_size: bytes that an item takes where it stands, 1 or more.
        left: one number: the bytes that may still be read.
        path: the argument, for the reason.

    Raises:
        UndecodableLog: the length or the items lie outside the data, or too much was read already.
    """
    # Most of the time that dynamic values take is spent here, hence one function.
    start = at + 32
    if start > len(data):
        raise _beyond(path)
    stop = start + _word(data[at:start]) * item_size
    if stop > len(data):
        raise _beyond(path)
    left[0] -= stop - at
    if left[0] < 0:
        raise _too_much(path)
    return start, stop


def _beyond(path: str) -> UndecodableLog:
    return UndecodableLog(f"argument {path}: its offset or length points beyond the data")


def _too_much(path: str) -> UndecodableLog:
    return UndecodableLog(f"argument {path}: offsets overlap so often that the data would be read many times over")


def read_bytes(data: bytes, at: int, left: list[int], path: str) -> bytes:
    """The bytes whose length word stands at ``at``.

    What follows them is not looked at: compilers before 0.5 did not pad the last value to 32 bytes, and padding that is
    not zero is part of no value.

    Raises:
        UndecodableLog: see :func:`span`.
    """
    start, stop = span(data, at, 1, left, path)
    return data[start:stop]


def read_text(data: bytes, at: int, left: list[int], notes: list[str], path: str) -> str:
    """The string whose length word stands at ``at``, as Postgres can hold it.

    NUL characters and bytes that are not UTF-8 become U+FFFD, and ``notes`` says so, once an argument.

    Raises:
        UndecodableLog: see :func:`span`.
    """
    raw = read_bytes(data, at, left, path)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
        _note(notes, f"argument {path}: invalid UTF-8 replaced")
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
        _note(notes, f"argument {path}: NUL replaced")
    return text


def _note(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)


def scaled(value: int, places: int) -> Decimal:
    """``value / 10 ** places``, exactly: the digits are shifted, not divided, so that no context rounds them."""
    return Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -places))


def scaled_text(value: int, places: int) -> str:
    """``value / 10 ** places`` as a plain decimal, for JSON."""
    return format(scaled(value, places), "f")


class Decoder:
    """The decoder of one event.

    Attributes:
        event: the event.
        source: the generated Python.
        decode: ``decode(topics, data, notes) -> values``: the arguments in the ABI's order, as
            :func:`indexer.abi.columns.event_columns` describes them: bytes, int, Decimal, bool, str, lists of these,
            and plain JSON (dict, list, str, bool) for jsonb columns. ``topics`` are 32 bytes each. ``notes`` receives a
            line for each argument whose text had to be altered. Raises UndecodableLog, and nothing else.
    """

    def __init__(self, event: Event) -> None:
        self.event = event
        self.source = _event_source(event)
        self.decode: Callable[[Sequence[bytes], bytes, list[str]], Values] = _load(self.source, event.signature)

    def __reduce__(self) -> tuple[Callable[[Event], "Decoder"], tuple[Event]]:
        # A generated function cannot be pickled; another process generates it again.
        return Decoder, (self.event,)


class DataDecoder:
    """The decoder of values that stand in data alone: what a function returned, what an error carries.

    Attributes:
        parameters: the values' names and types.
        source: the generated Python.
        decode: ``decode(data, notes) -> values``, as in :class:`Decoder`.
    """

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        self.parameters = parameters
        self.source = _data_source(parameters)
        self.decode: Callable[[bytes, list[str]], Values] = _load(self.source, "values")

    def __reduce__(self) -> tuple[Callable[[tuple[Parameter, ...]], "DataDecoder"], tuple[tuple[Parameter, ...]]]:
        return DataDecoder, (self.parameters,)


def compile_decoder(event: Event) -> Decoder:
    """Generate the decoder of an event (about a millisecond)."""
    return Decoder(event)


def compile_outputs(function: Function) -> DataDecoder:
    """Generate the decoder of what a function returns, as :func:`indexer.abi.columns.output_columns` describes it."""
    return DataDecoder(function.outputs)


def compile_values(parameters: tuple[Parameter, ...]) -> DataDecoder:
    """Generate the decoder of encoded values, such as a custom error's arguments (behind its selector)."""
    return DataDecoder(parameters)


def _load(source: str, name: str) -> Callable[..., Values]:
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<decoder of {name}>", "exec"), namespace)  # noqa: S102 - built from types, see codegen
    decode: Callable[..., Values] = namespace["decode"]
    return decode


def _event_source(event: Event) -> str:
    generator = Generator()
    topics = [] if event.anonymous else ["topic0"]
    lines: list[str] = []
    expressions: list[str] = []
    in_data: list[Head] = []
    for i, (name, parameter) in enumerate(named(event.inputs)):
        if not parameter.indexed:
            in_data.append(generator.head(parameter.type, name, json=is_json(parameter.type)))
            expressions.append(in_data[-1].expression)
            continue
        topic = f"topic{len(topics)}" if not event.anonymous else f"indexed{i}"
        topics.append(topic)
        head = _topic(generator, parameter, name)
        lines.append(f"({', '.join(head.names)},) = {generator.struct(head.format, 'unpack')}({topic})")
        expressions.append(head.expression)
    opening = [f"if len(topics) != {len(topics)}:", f'    fail(f"{{len(topics)}} topics instead of {len(topics)}")']
    if topics:
        opening.append(f"({', '.join(topics)},) = topics")
    if not event.anonymous:
        opening += [f"if topic0 != {event.topic0!r}:", '    fail("topic0 is another event\'s")']
    parameters = tuple(p for p in event.inputs if not p.indexed)
    body = [*opening, *lines, *_data_lines(generator, in_data, parameters), f"return {_tuple(expressions)}"]
    return generator.source(_guarded("decode(topics, data, notes)", body))


def _data_source(parameters: tuple[Parameter, ...]) -> str:
    generator = Generator()
    heads = [generator.head(p.type, name, json=is_json(p.type)) for name, p in named(parameters)]
    body = [
        *_data_lines(generator, heads, parameters),
        f"return {_tuple([h.expression for h in heads])}",
    ]
    return generator.source(_guarded("decode(data, notes)", body))


def _topic(generator: Generator, parameter: Parameter, name: str) -> Head:
    if parameter.is_hashed:
        word = generator.fresh("hash")
        return Head("32s", (word,), word)
    return generator.head(parameter.type, name, json=False)


def _data_lines(generator: Generator, heads: Sequence[Head], parameters: tuple[Parameter, ...]) -> list[str]:
    if not heads:
        return []
    size = heads_size(parameters)
    dynamic = any(p.type.is_dynamic for p in parameters)
    names = ", ".join(name for head in heads for name in head.names)
    form = "".join(head.format for head in heads)
    return [
        f"if len(data) < {size}:",
        f'    fail("data shorter than the {size} bytes of the arguments\' heads")',
        f"({names},) = {generator.struct(form, 'unpack_from')}(data)",
        *(["base = 0", f"left = [{WORK_FACTOR} * len(data)]"] if dynamic else []),
    ]


def _guarded(signature: str, body: Sequence[str]) -> list[str]:
    """A function whose body raises nothing but UndecodableLog."""
    return [
        f"def {signature}:",
        "    try:",
        *(f"        {line}" for line in body),
        "    except UndecodableLog:",
        "        raise",
        "    except StructError:",
        '        fail("a topic is not 32 bytes long")',
        "    except Exception as error:",
        '        fail(f"the decoder failed: {type(error).__name__}")',
    ]


def _tuple(expressions: Sequence[str]) -> str:
    return "(" + "".join(f"{e}, " for e in expressions) + ")"
