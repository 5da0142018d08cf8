"""Names: from what an ABI calls a thing to what Postgres calls it.

Pure text, nothing imported but the standard library: the store and the API use it too. Chosen names are kept in the
catalog and never change afterwards, so whatever is chosen here is chosen once (see ``kept`` and ``taken``).
"""

import re
import unicodedata
from collections.abc import Collection, Iterable

MAX_IDENTIFIER_BYTES = 63
"""Postgres cuts a longer identifier, silently (NAMEDATALEN - 1)."""

SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})
"""Columns that every Postgres table has already (Postgres documentation, "System Columns")."""

RESERVED_WORDS = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true union
    unique user using variadic verbose when where window with
    """.split()  # noqa: SIM905 - a list of 101 quoted words reads worse
)
"""The words that Postgres 18 does not take, unquoted, as the name of a column or table (its ``kwlist.h``: reserved, and
reserved but for functions and types). All others (``value``, ``name``, ``time``...) read well without quotes."""

MOST_COLUMNS = 1600
"""So many columns a table of Postgres can have."""
RESERVED_SCHEMAS = frozenset({"public", "gapless", "derived", "information_schema"})

_SUFFIX_BY_WORD = {("from", "address"): "from_address", ("to", "address"): "to_address"}
_CONTRACT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def snake_case(name: str) -> str:
    """The name in snake_case: lower-case letters, digits and single underscores, or "" where nothing remains.

    Letters of every script are kept as they are (NFC); other characters become underscores; leading and trailing
    underscores go. A name that would start with a digit starts with an underscore instead.

    >>> [snake_case(n) for n in ("tokenId", "_from", "amount0In", "sqrtPriceX96", "NFTMinted", "tokenURIs", "DOMAIN")]
    ['token_id', 'from', 'amount0_in', 'sqrt_price_x96', 'nft_minted', 'token_uris', 'domain']
    """
    characters = [c if f"a{c}".isidentifier() else "_" for c in unicodedata.normalize("NFC", name)]
    words = "".join(_with_boundaries(characters)).lower()
    # Lower-casing may decompose a letter (U+0130), and not every piece of it must be allowed in a name.
    words = "".join(c if f"a{c}".isidentifier() else "_" for c in unicodedata.normalize("NFC", words))
    words = re.sub("_+", "_", words).strip("_")
    return f"_{words}" if words and not words[0].isidentifier() else words


def _with_boundaries(characters: list[str]) -> Iterable[str]:
    for i, c in enumerate(characters):
        if i and c.isupper():
            before = characters[i - 1]
            after = characters[i + 1] if i + 1 < len(characters) else ""
            beyond = characters[i + 2] if i + 2 < len(characters) else ""
            plural = after == "s" and not beyond.islower()
            if before.islower() or before.isdigit() or (before.isupper() and after.islower() and not plural):
                yield "_"
        yield c


def fit(name: str, suffix: str = "") -> str:
    """The name, cut so that it and the suffix fit into 63 bytes of UTF-8, and the suffix."""
    room = MAX_IDENTIFIER_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix if len(name.encode()) > room else name + suffix


def unique(name: str, taken: Collection[str], suffix: str = "") -> str:
    """The name within 63 bytes, or the first of ``name + suffix``, ``name + suffix + _2``, ... that is not taken."""
    if (candidate := fit(name)) not in taken:
        return candidate
    if suffix and (candidate := fit(name, suffix)) not in taken:
        return candidate
    number = 2
    while (candidate := fit(name, f"{suffix}_{number}")) in taken:
        number += 1
    return candidate


def argument_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of arguments made unique, in order.

    An unnamed one is ``arg0`` by its position, the second ``value`` is ``value_2``. These are the keys of a row's
    ``args`` in the API and of objects in jsonb columns.
    """
    names = tuple(names)
    given = set(names)
    chosen: dict[str, None] = {}
    for position, name in enumerate(names):
        wanted = name or f"arg{position}"
        candidate, number = wanted, 2
        # A name that was given is never pushed aside by one that was made up.
        while candidate in chosen or (candidate != name and candidate in given):
            candidate, number = f"{wanted}_{number}", number + 1
        chosen[candidate] = None
    return tuple(chosen)


def column_name(argument: str, position: int, abi_type: str, taken: Collection[str]) -> str:
    """The column of an argument.

    Args:
        argument: its name, as :func:`argument_names` gives it.
        position: its place, for a name of which nothing remains.
        abi_type: its canonical type: ``from`` becomes ``from_address`` only for an address.
        taken: names that are in use: the fixed columns and the arguments' before this one.
    """
    name = snake_case(argument) or f"arg{position}"
    if name in RESERVED_WORDS or name in SYSTEM_COLUMNS:
        return unique(_SUFFIX_BY_WORD.get((name, abi_type), f"{name}_value"), taken)
    return unique(name, taken, "_value")


def table_name(event: str, selector: str, *, overloaded: bool, taken: Collection[str] = ()) -> str:
    """The table of an event in its contract's schema.

    Args:
        event: the event's name in the ABI.
        selector: the first eight hex digits of its topic0, the suffix of overloaded events.
        overloaded: whether the ABI has several events of that name.
        taken: tables of that schema that exist already.
    """
    name = snake_case(event) or "event"
    if overloaded:
        return unique(fit(name, f"_{selector}"), taken)
    if name in RESERVED_WORDS:
        name = fit(name, "_event")
    return unique(name, taken, f"_{selector}")


def schema_name(contract: str) -> str:
    """The Postgres schema of a contract of the manifest. Two contracts may not share it.

    Raises:
        ValueError: the contract has no such name; :func:`schema_problem` says why.
    """
    if problem := schema_problem(contract):
        raise ValueError(problem)
    return snake_case(contract)


def schema_problem(contract: str) -> str | None:
    """Why a contract cannot have this name, as a sentence without a full stop, or None where it can."""
    if not _CONTRACT_NAME.fullmatch(contract) or not (name := snake_case(contract)):
        return "a contract's name is letters, digits, underscores and hyphens, and starts with a letter"
    if len(name) > MAX_IDENTIFIER_BYTES:
        return f"{name}: a Postgres schema has at most {MAX_IDENTIFIER_BYTES} characters, this has {len(name)}"
    if name in RESERVED_SCHEMAS or name.startswith("pg_") or name == "pg":
        return f"the schema {name} is reserved"
    if name in RESERVED_WORDS:
        return f"{name} is a reserved word of SQL: it would need quotes in every query"
    return None
