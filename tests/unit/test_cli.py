"""The command line itself, and ``gapless check``: from outside, as a process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def gapless(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    program = "from indexer.cli import main; main()"
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**plain, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "abis", tmp_path / "abis")
    shutil.copy(REPOSITORY / "indexer.toml", tmp_path)
    return tmp_path


def test_check_of_the_shipped_manifest(folder: Path) -> None:
    done = gapless("check", folder=folder, RPC_URL="https://eth.example/v2/SECRET")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("indexer.toml is right: 1 chain, ")
    assert "  usdc (ethereum): Transfer\n" in done.stdout
    assert "SECRET" not in done.stdout


def test_check_reads_env_files_and_other_paths(folder: Path) -> None:
    (folder / "indexer.toml").rename(folder / "other.toml")
    (folder / ".env").write_text("RPC_URL=https://eth.example\nGAPLESS_MANIFEST=other.toml\n")
    assert gapless("check", folder=folder).stdout.startswith("other.toml is right")
    assert gapless("check", str(folder / "other.toml"), folder=folder).returncode == 0


def test_check_of_a_wrong_manifest(folder: Path) -> None:
    text = (folder / "indexer.toml").read_text()
    (folder / "indexer.toml").write_text(text.replace('events = ["Transfer"]', 'events = ["Transfers"]\nstart = 5'))
    done = gapless("check", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: indexer.toml has 3 problems:\n  line ")
    assert "Traceback" not in done.stderr


def test_check_of_no_manifest(folder: Path) -> None:
    done = gapless("check", "none.toml", folder=folder)
    assert done.returncode == 2
    assert "none.toml has 1 problem:\n  cannot be read: No such file or directory\n" in done.stderr
    assert "GAPLESS_MANIFEST" in done.stderr


def test_check_in_a_wrong_environment(folder: Path) -> None:
    done = gapless("check", folder=folder, LOG_LEVEL="loud", DATABASE_URL="x://u:SECRET@h")
    assert done.returncode == 2
    assert "the environment has 2 problems" in done.stderr
    assert "SECRET" not in done.stderr


def test_a_defect_shows_a_traceback_without_secrets(folder: Path) -> None:
    program = (
        "import indexer.cli as cli\n"
        "@cli.app.command()\n"
        "def broken() -> None:\n"
        "    raise OSError('https://u:SECRET@h/SECRET')\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "broken"], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "https://h/***" in done.stderr
    assert "SECRET" not in done.stderr


def test_the_version_and_a_wrong_command(folder: Path) -> None:
    assert gapless("--version", folder=folder).stdout.startswith("gapless ")
    wrong = gapless("chek", folder=folder)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"]])
def test_help_is_quick(folder: Path, arguments: list[str]) -> None:
    # The time itself would depend on the machine; what costs it does not.
    program = (
        "import sys, atexit\n"
        "heavy = {'web3', 'eth_abi', 'eth_utils', 'multicall', 'sqlalchemy', 'falcon', 'apscheduler', 'psycopg'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules))))\n"
        "from indexer.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert done.stdout.rstrip().endswith("HEAVY []")
