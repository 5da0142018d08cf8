"""The TypeScript client from a fresh copy: compiled strictly, run in Node and in a page of another origin."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
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
    assert re.search(r"gapless\.ts: \d+ events and 1 series", said)
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
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(example)))
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
