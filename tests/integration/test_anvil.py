"""The demo's chain: it goes on where it stopped, however it was stopped, and never outlives us."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from indexer.demo.anvil import _saved, anvil, install, rpc
from indexer.errors import GaplessError
from tests.processes import living

REPOSITORY = Path(__file__).resolve().parents[2]

OWNER = """
import sys
from pathlib import Path
from indexer.demo.anvil import anvil

with anvil(Path(sys.argv[1]), state=Path(sys.argv[2]), save_every=0.2) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def blocks(url: str) -> list[dict[str, str]]:
    head = int(rpc(url, "eth_blockNumber"), 16)
    return [rpc(url, "eth_getBlockByNumber", hex(number), False) for number in range(head + 1)]


def pay(url: str, times: int) -> None:
    accounts = rpc(url, "eth_accounts")
    for _ in range(times):
        payment = rpc(url, "eth_sendTransaction", {"from": accounts[0], "to": accounts[1], "value": "0x1"})
        while rpc(url, "eth_getTransactionReceipt", payment) is None:
            pass  # its block is on the way


def running(state: Path) -> list[psutil.Process]:
    return [process for process, arguments in living() if str(state / "cache") in arguments]


def test_the_chain_goes_on_over_many_starts(anvil_home: Path, tmp_path: Path) -> None:
    known: list[dict[str, str]] = []
    urls = set()
    for _ in range(4):  # some of anvil's troubles with its genesis begin at the third start
        with anvil(anvil_home, state=tmp_path) as url:
            urls.add(url)
            assert not known or blocks(url) == known
            pay(url, 3)
            known = blocks(url)
        assert running(tmp_path) == []
    assert len(known) == 13
    assert len(urls) == 1, "the same port"
    times = [int(block["timestamp"], 16) for block in known]
    assert times == sorted(times), "the clock never goes back"


@pytest.mark.parametrize("victims", ["owner", "all"])
def test_the_chain_survives_a_kill(anvil_home: Path, tmp_path: Path, victims: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(anvil_home), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert owner.stdout is not None
    url = owner.stdout.readline().strip()
    pay(url, 10)
    known = blocks(url)
    if victims == "all":
        while not (tmp_path / "state.json").exists():  # the first save may have come before the blocks: wait for
            pass
        (tmp_path / "state.json").unlink()  # one that certainly holds them
        while not (tmp_path / "state.json").exists():
            pass
        for process in running(tmp_path):
            process.kill()
    owner.kill()
    owner.communicate()
    with anvil(anvil_home, state=tmp_path) as again:
        assert again == url
        assert blocks(again) == known
    assert running(tmp_path) == []


def test_half_a_state_is_not_taken(tmp_path: Path) -> None:
    assert _saved(tmp_path) is None
    (tmp_path / "state.json").write_text('{"blocks": []}')
    (tmp_path / "exit.json").write_text('{"blocks": [1, 2')
    saved = _saved(tmp_path)
    assert saved is not None
    assert saved.read_text() == '{"blocks": []}'
    (tmp_path / "exit.json").write_text('{"blocks": [1, 2]}')
    assert (_saved(tmp_path) or tmp_path).read_text() == '{"blocks": [1, 2]}'
    assert not (tmp_path / "exit.json").exists()


def test_blocks_come_by_the_clock(anvil_home: Path, tmp_path: Path) -> None:
    with anvil(anvil_home, state=tmp_path, block_time=1) as url:
        pay(url, 1)
        assert len(blocks(url)) > 1


def test_chains_are_independent(make_anvil: Callable[..., object]) -> None:
    one, two = make_anvil(), make_anvil(chain_id=5)
    assert (one.rpc("eth_chainId"), two.rpc("eth_chainId")) == ("0x7a69", "0x5")  # type: ignore[attr-defined]
    assert one.mine(3) == 3  # type: ignore[attr-defined]
    assert two.rpc("eth_blockNumber") == "0x0"  # type: ignore[attr-defined]


def test_npm_comes_from_the_wheel_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = install(tmp_path)
    assert subprocess.run([program, "--version"], capture_output=True, check=True).stdout.startswith(b"anvil")


def test_no_npm_at_all_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GaplessError, match="no npm") as raised:
        install(tmp_path)
    assert "gapless[demo]" in str(raised.value.hint)
