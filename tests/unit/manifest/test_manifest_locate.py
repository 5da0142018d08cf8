"""Finding the lines of a TOML document."""

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifest_desk import REPOSITORY

from indexer.manifest.source import KeyPath, locate, nearest_line

TEXT = '''\
# a comment with [brackets] and "quotes
[chains.ethereum]
id = 1                      # [not.a.table]
rpc = ["${A}",
  # a comment in a list
  { url = "${B}", priority = 1 }, [[2]]]
[contracts."usd c"]
a.b = """x
[no.table]
\\""" = 1
"""
'c d' = \'\'\'
= \'\'\'
filters = { Transfer = [{to = ["0x#", '0y"']}, {from = 2}] }
[[x]]
y = 1979-05-27 07:32:00
[[x]]
[x.z]
q = -1.5e3
[[x.w]]
v = inf
'''

LINES: dict[KeyPath, int] = {
    ("chains",): 2,
    ("chains", "ethereum"): 2,
    ("chains", "ethereum", "id"): 3,
    ("chains", "ethereum", "rpc"): 4,
    ("chains", "ethereum", "rpc", 0): 4,
    ("chains", "ethereum", "rpc", 1): 6,
    ("chains", "ethereum", "rpc", 1, "url"): 6,
    ("chains", "ethereum", "rpc", 1, "priority"): 6,
    ("chains", "ethereum", "rpc", 2): 6,
    ("chains", "ethereum", "rpc", 2, 0): 6,
    ("chains", "ethereum", "rpc", 2, 0, 0): 6,
    ("contracts",): 7,
    ("contracts", "usd c"): 7,
    ("contracts", "usd c", "a"): 8,
    ("contracts", "usd c", "a", "b"): 8,
    ("contracts", "usd c", "c d"): 12,
    ("contracts", "usd c", "filters"): 14,
    ("contracts", "usd c", "filters", "Transfer"): 14,
    ("contracts", "usd c", "filters", "Transfer", 0): 14,
    ("contracts", "usd c", "filters", "Transfer", 0, "to"): 14,
    ("contracts", "usd c", "filters", "Transfer", 0, "to", 0): 14,
    ("contracts", "usd c", "filters", "Transfer", 0, "to", 1): 14,
    ("contracts", "usd c", "filters", "Transfer", 1): 14,
    ("contracts", "usd c", "filters", "Transfer", 1, "from"): 14,
    ("x",): 15,
    ("x", 0): 15,
    ("x", 0, "y"): 16,
    ("x", 1): 17,
    ("x", 1, "z"): 18,
    ("x", 1, "z", "q"): 19,
    ("x", 1, "w"): 20,
    ("x", 1, "w", 0): 20,
    ("x", 1, "w", 0, "v"): 21,
}


def paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def test_every_kind_of_line() -> None:
    assert locate(TEXT) == LINES


@pytest.mark.parametrize(
    "text", [TEXT, (REPOSITORY / "indexer.toml").read_text(), (REPOSITORY / "pyproject.toml").read_text()]
)
def test_all_that_tomllib_reads_is_found_and_nothing_else(text: str) -> None:
    assert set(locate(text)) == set(paths(tomllib.loads(text)))


_VALUES = st.recursive(
    st.sampled_from(
        ["1", "-2.5", "true", '"a # b"', "'c = ['", '"""\n[d]\n"""', "'''\n'''", '"\\""', "1979-05-27 07:32:00", '""']
    ),
    lambda value: (
        st.lists(value, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(value, max_size=3).map(lambda items: "[ # x\n" + "".join(f"{item},\n" for item in items) + "]")
        | st.lists(value, max_size=3).map(
            lambda items: f"{{{', '.join(f'k{at} = {i}' for at, i in enumerate(items))}}}"
        )
    ),
    max_leaves=8,
)
_NAMES = st.sampled_from(["a", "b-c", '"d e"', "'f.g'", "0"])
_TABLES = st.tuples(st.lists(_NAMES, min_size=1, max_size=3), st.lists(_VALUES, max_size=3))


@given(st.lists(_TABLES, max_size=5))
def test_random_documents(tables: list[tuple[list[str], list[str]]]) -> None:
    text = "".join(
        f"[ {at}.{'.'.join(names)} ] # x\n" + "".join(f"v{number}.w = {value}\n" for number, value in enumerate(values))
        for at, (names, values) in enumerate(tables)
    )
    assert set(locate(text)) == set(paths(tomllib.loads(text)))


def test_the_nearest_line_is_that_of_what_holds_it() -> None:
    assert nearest_line(LINES, ("chains", "ethereum", "rpc", 1, "url")) == 6
    assert nearest_line(LINES, ("chains", "ethereum", "missing", 5)) == 2
    assert nearest_line(LINES, ("missing",)) is None
