"""A process that was forked ready behaves as one that was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests import ready
from tests.ready import ReadyProcess

TELLS = """
import json, os, sys, threading
if __name__ == "__main__":
    own = [os.getcwd(), dict(os.environ), threading.active_count(), os.getppid()]
    print(json.dumps([sys.argv, sys.stdin.read(), *own]))
    print("trouble", file=sys.stderr)
    sys.exit(7)
"""


def test_arguments_files_directory_environment_and_status_are_its_own(tmp_path):
    command = [sys.executable, "-c", TELLS, "one", "two words"]
    told = []
    for kind in (subprocess.Popen, ReadyProcess):
        with kind(
            command,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "LC_CTYPE": "C.UTF-8", "ONLY": "täglich"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            told.append((*process.communicate("said", timeout=60), process.returncode))
    assert told[0] == told[1]
    assert told[0][2] == 7


WAITS_IN_SHORT_STEPS = """
import time
print("up", flush=True)
while True:
    time.sleep(0.01)
"""
"""Not one read: Python handles a signal that comes just before a read only when the read has ended."""


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signals_reach_it_and_its_end_is_seen(which):
    process = ReadyProcess([sys.executable, "-c", WAITS_IN_SHORT_STEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.poll() is None
    assert process.stdout is not None
    if which == signal.SIGINT:  # before Python has begun its program it is ignored
        assert process.stdout.readline() == b"up\n"
    process.send_signal(which)
    assert process.wait(60) == -which
    process.stdout.close()


def test_what_takes_too_long_is_killed():
    with pytest.raises(subprocess.TimeoutExpired):
        ready.run([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.1)


def test_files_that_are_given_stay_open(tmp_path):
    with (tmp_path / "said").open("w+") as file:
        for _ in range(2):
            with ReadyProcess([sys.executable, "-c", "print('one')"], stdout=file, stderr=file) as process:
                assert process.wait(60) == 0
        file.seek(0)
        assert file.read() == "one\none\n"
