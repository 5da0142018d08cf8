"""The TypeScript client from a fresh copy: compiled strictly, run in Node and in a page of another origin."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "typescript"
#: Node and npm: the machine's, or else those of the wheel that came with the demo.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])


def run(*command: str, cwd: Path) -> str:
    environment = {"NODE_USE_SYSTEM_CA": "1", **os.environ, "PATH": PATH}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def example(demo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's directory, with the client installed and the types of the demo made."""
    made = ("node_modules", "dist", "build", "gapless.ts")
    copy = tmp_path_factory.mktemp("client") / "typescript"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns(*made))
    for directory in (copy, copy / "examples"):
        run("npm", "ci", "--no-audit", "--no-fund", cwd=directory)
    said = run("npx", "gapless-types", demo, "gapless.ts", cwd=copy / "examples")
    assert re.search(r"gapless\.ts: \d+ events and 1 series, \d+ derived tables of", said)
    return copy / "examples"


def test_its_own_tests(example: Path) -> None:
    run("npm", "test", cwd=example.parent)


def test_it_compiles_strictly_with_the_types_of_viem(example: Path) -> None:
    run("npm", "run", "check", cwd=example)


def test_what_is_wrong_does_not_compile(example: Path) -> None:
    wrong = (example / "transfers.ts").read_text().replace("const value: bigint", "const value: string")
    (example / "wrong.ts").write_text(wrong)
    try:
        with pytest.raises(AssertionError, match=r"wrong\.ts.*Type 'bigint' is not assignable to type 'string'"):
            run("npm", "run", "check", cwd=example)
    finally:
        (example / "wrong.ts").unlink()


def test_in_node_it_reads_pages_walks_and_series(example: Path, demo: str) -> None:
    said = run("npm", "run", "transfers", "--", demo, cwd=example)
    assert len(re.findall(r"^\d{4}-\S+Z 0x[0-9a-fA-F]{40} gets [\d.]+ \S+ \(0x[0-9a-f]{8}…\)$", said, re.M)) == 3
    assert re.search(r"^block \d+: 0x[0-9a-f]{40} \d+$", said, re.M)
    assert re.search(r"^a large mint: \d{22,}$", said, re.M)
    assert re.search(r"^0x[0-9a-f]{40} has \d+ and \d+ more, first \d+$", said, re.M)
    assert re.search(r"^\d{4}-\d\d-\d\d: \d+ transfers of \d+$", said, re.M)
    assert re.search(
        r"^\d+ transfers \((exact|estimated)\), the last in a transaction of (0x[0-9a-f]{40}|undefined)$", said, re.M
    )
    assert re.search(r"^a swap sells \d+$", said, re.M)
    assert re.search(r"^0x[0-9a-f]{40} at \S+Z: \d+ swaps of \d+$", said, re.M)
    assert re.search(r"^[1-9]\d* hours of that pair, complete: \w+$", said, re.M)
    assert re.search(r"^[1-3] candles are followed \(true\), the first closes at [\d.]+$", said, re.M)
    walked = re.search(r"^(\d+) mints of (\d+) units, complete: true$", said, re.M)
    assert walked
    nobody = "0x" + 40 * "0"
    url = f"{demo}/v1/contracts/coins/events/Transfer?arg.from={nobody}&finality=finalized&format=ndjson"
    exported = requests.get(url, timeout=30).text.splitlines()
    assert 0 < int(walked[1]) <= len(exported)  # more are finalized meanwhile


def test_the_guide_runs_as_shown(example: Path, demo: str) -> None:
    text = (CLIENT.parents[1] / "docs" / "typescript.md").read_text()
    guide = re.findall(r"^```ts\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)[0]
    (example / "guide.ts").write_text(guide.replace("http://127.0.0.1:8000", demo))
    flags = re.findall(r"^npx tsc (.*) transfers\.ts$", text, flags=re.MULTILINE)[0]
    run("npx", "tsc", *flags.split(), "guide.ts", cwd=example)
    build = ("--bundle", "--platform=node", "--format=esm", "--log-level=warning", "--outfile=build/guide.js")
    run("npx", "esbuild", "guide.ts", *build, cwd=example)
    said = run("node", "build/guide.js", cwd=example).splitlines()
    assert len(said) == 4
    assert re.fullmatch(r"\d{10,}n true", said[-1])


def test_its_rows_are_what_viem_makes_of_the_same_logs(example: Path, demo: str, node: str) -> None:
    shutil.copy(Path(__file__).with_name("like_viem.ts"), example)
    run("npm", "run", "check", cwd=example)
    build = ("--bundle", "--platform=node", "--format=esm", "--log-level=warning", "--outfile=build/like_viem.js")
    run("npx", "esbuild", "like_viem.ts", *build, cwd=example)
    said = run("node", "build/like_viem.js", demo, node, cwd=example)
    compared = re.search(r"^(\d+) the same, (\d+) not comparable$", said, re.M)
    assert compared
    assert int(compared[1]) > 100 > int(compared[2])


@pytest.fixture
def elsewhere(example: Path) -> Iterator[str]:
    """Another web origin, which serves the example's page."""
    run("npm", "run", "page", cwd=example)
    run("npm", "run", "react", cwd=example)
    with served(example) as origin:
        yield origin


@contextmanager
def served(directory: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_in_a_page_of_another_origin_it_follows_the_head(tab, demo: str, elsewhere: str) -> None:
    tab.goto(f"{elsewhere}/page.html?api={demo}")
    tab.wait("document.querySelector('p').textContent.startsWith('indexed up to block')")
    tab.wait("document.querySelectorAll('li').length >= 2")
    shown = tab.run("[...document.querySelectorAll('li')].map(item => item.textContent)")
    ids = [tuple(map(int, text.split(":")[0].split("-"))) for text in shown]
    assert ids == sorted(set(ids), reverse=True)
    assert all(re.fullmatch(r"[\d-]+: [\d.]+ to 0x[0-9a-f]{40}", text) for text in shown)
    assert any(url.startswith(demo.rpartition(":")[0]) and "/stream" in url for url in tab.asked)
    assert tab.problems == []


def test_the_hooks_show_rows_balances_and_how_far_they_are(tab, demo: str, elsewhere: str) -> None:
    tab.goto(f"{elsewhere}/react.html?api={demo}")
    mints = "document.querySelector('#mints p')?.innerText"
    tab.wait(f"/^3 of \\d+ mints$/.test({mints})")
    tab.run("document.querySelector('#more').click()")
    tab.wait(f"/^5 of \\d+ mints$/.test({mints})")
    tab.run("document.querySelector('#again').click()")
    tab.wait(f"/^5 of \\d+ mints$/.test({mints})")
    tab.wait("document.querySelector('#live').dataset.connection === 'open'")
    synced = "Number(/^synced to (\\d+)$/.exec(document.querySelector('#live p').innerText)?.[1] ?? 0)"
    first = tab.wait(synced)
    newest = tab.wait("document.querySelector('#live li')?.innerText.split(':')[0]")
    tab.wait(f"{synced} > {first}")
    tab.wait(f"document.querySelector('#live li').innerText.split(':')[0] !== '{newest}'")
    tab.wait("[...document.querySelectorAll('#live li small')].some(each => /^has [0-9]+$/.test(each.innerText))")
    shown = tab.run("[...document.querySelectorAll('#live li')].map(item => item.innerText)")
    ids = [tuple(map(int, text.split(":")[0].split("-"))) for text in shown]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) <= 20
    assert tab.problems == []


PACKED_IN_NODE = """
import { Gapless, GaplessError } from "gapless-client";
const schema = { events: { coins: { Transfer: { args: { value: true } } } }, series: {}, paths: {} };
const gapless = new Gapless(schema, { url: process.argv[2] });
const { rows } = await gapless.page("coins", "Transfer", { limit: 2 });
console.log(rows.length, typeof rows[0].args.value, GaplessError.name);
"""
PACKED_IN_A_PAGE = """<!doctype html><link rel="icon" href="data:,"><p></p>
<script type="importmap">{"imports": {"gapless-client": "./node_modules/gapless-client/dist/index.js"}}</script>
<script type="module">
import { Gapless } from "gapless-client";
const url = new URLSearchParams(location.search).get("api");
const schema = { events: { coins: { Transfer: { args: { value: true } } } }, series: {}, paths: {} };
const gapless = new Gapless(schema, { url });
for await (const message of gapless.stream("coins", "Transfer", {}, { after: "0-0" })) {
  if (message.kind !== "row") continue;
  document.querySelector("p").textContent = `${message.row.id} ${typeof message.row.args.value}`;
  break;
}
</script>
"""


def test_the_package_installs_and_runs_in_node_and_in_a_page(tab, example: Path, demo: str, tmp_path: Path) -> None:
    packed = run("npm", "pack", "--silent", cwd=example.parent).split()[-1]
    (tmp_path / "package.json").write_text('{"name": "dapp", "private": true, "type": "module"}')
    run("npm", "install", "--no-audit", "--no-fund", str(example.parent / packed), cwd=tmp_path)
    files = {str(path.relative_to(tmp_path / "node_modules" / "gapless-client"))
             for path in (tmp_path / "node_modules" / "gapless-client").rglob("*") if path.is_file()}  # fmt: skip
    assert {"package.json", "README.md", "generate.js", "dist/index.js", "dist/index.d.ts", "dist/react.js"} <= files
    assert not [name for name in files if name.startswith(("src/", "test/", "examples/", "node_modules/"))]
    (tmp_path / "read.js").write_text(PACKED_IN_NODE)
    assert run("node", "read.js", demo, cwd=tmp_path) == "2 bigint GaplessError\n"
    assert re.search(r"gapless\.ts: \d+ events", run("npx", "gapless-types", demo, "gapless.ts", cwd=tmp_path))
    (tmp_path / "index.html").write_text(PACKED_IN_A_PAGE)
    with served(tmp_path) as origin:
        tab.goto(f"{origin}/index.html?api={demo}")
        tab.wait("/^[0-9]+-[0-9]+ bigint$/.test(document.querySelector('p').innerText)")
    assert tab.problems == []
