"""The programs of docs/programs.md do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from indexer.programs import module
from indexer.programs.testing import run

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "programs.md").read_text()
POSITIONS, CHECK, FLOOR = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def loaded(tmp_path, name, text):
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    program = module.load(path).program
    return program, {table.__name__: table for table in program.tables}


def test_positions_and_their_test(tmp_path):
    program, tables = loaded(tmp_path, "positions", POSITIONS)
    scope = {}
    exec(CHECK, scope)
    scope["check"](program, tables["Position"])


def test_the_floor_is_the_lowest_open_offer_at_every_moment(tmp_path):
    program, tables = loaded(tmp_path, "floor", FLOOR)
    random = Random(1)
    collections = [bytes([n]) * 20 for n in (1, 2)]
    events, offers = [], {}
    for block in range(1, 200):
        name = random.choice(("Listed", "Listed", "Sold", "Cancelled"))
        of = (random.choice(collections), random.randrange(8))
        args = {"collection": of[0], "tokenId": of[1]}
        if name == "Listed":
            offers[of] = args["price"] = random.randrange(12)
        else:
            offers.pop(of, None)
        events.append({"event": f"market.{name}", "block": block, "args": args})
        if block % 10 == 0:
            found = {row.collection: (row.lowest, row.open) for row in run(program, events)[tables["Floor"]]}
            for collection, floor in found.items():
                prices = [price for (where, _), price in offers.items() if where == collection]
                assert floor == (min(prices, default=None), len(prices))
