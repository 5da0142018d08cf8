"""Processes of ours that start at once: forked from one that has imported everything already.

``gapless`` imports for four seconds (web3 and what it brings along), and the tests start it hundreds of times.
:class:`ReadyProcess` is a ``subprocess.Popen`` for command lines of this Python, ``-c CODE`` and ``-m MODULE``. What it
starts is a child of this process like any other: with a number, signals, pipes, a working directory and an environment
of its own. Only its command line, as other processes see it, is that of the process it was forked from.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parent.parent
_ADOPTS_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): a process whose parent ends becomes this one's child."""

_BYTES = 1 << 20
"""A request's greatest length: arguments and an environment."""


class ReadyProcess(subprocess.Popen[Any]):
    """Like ``subprocess.Popen``, of ``[sys.executable, "-c" or "-m", ...]``; no ``preexec_fn``, user or group."""

    def _execute_child(self, *given: Any) -> None:
        names = inspect.signature(super()._execute_child).bind(*given).arguments  # type: ignore[misc]
        words = [os.fsdecode(word) for word in names["args"]]
        assert words[0] == sys.executable, words
        assert words[1] in ("-c", "-m"), words
        environment = os.environ if names["env"] is None else names["env"]
        request = {
            "arguments": words[1:],
            "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()},
            "directory": str(Path(os.fsdecode(names["cwd"] or ".")).absolute()),
            "session": bool(names["start_new_session"]),
        }
        own = [names["p2cread"], names["c2pwrite"], names["errwrite"]]
        self.pid = _starter.start(request, [file if file != -1 else shared for shared, file in enumerate(own)])
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(names[name] for name in pipes))  # type: ignore[attr-defined]


def run(command: Sequence[Any], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Like ``subprocess.run`` with ``capture_output``.

    Raises:
        subprocess.TimeoutExpired: it did not end within ``timeout`` seconds, and was killed.
    """
    timeout = options.pop("timeout", None)
    with ReadyProcess(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            said, complained = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


class _Starter:
    """The process that has imported everything, begun when the first is asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: socket.socket | None = None

    def start(self, request: dict[str, Any], files: Sequence[int]) -> int:
        """Returns the number of a new process with these as its standard streams."""
        said = json.dumps(request).encode()
        assert len(said) <= _BYTES, len(said)
        with self._lock:
            self._line = self._line or self._begin()
            _adopt_orphans(True)
            try:
                socket.send_fds(self._line, [said], files)
                return int(self._line.recv(64))
            finally:
                _adopt_orphans(False)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for line in (ours, theirs):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _BYTES)
        command = [sys.executable, "-m", "tests.ready", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=_REPOSITORY)
        theirs.close()

        def end() -> None:
            ours.close()
            process.wait()

        atexit.register(end)
        return ours


_starter = _Starter()


def _adopt_orphans(adopts: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_ADOPTS_ORPHANS, int(adopts), 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _import_everything() -> None:
    for package in ("indexer", "api"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)


def _serve(line: socket.socket) -> Callable[[], object] | None:
    """Forks for each request. Returns a child's program; in the first process None, once the line is closed."""
    while True:
        said, files, _, _ = socket.recv_fds(line, _BYTES, 3)
        if not said:
            return None
        request = json.loads(said)
        read, write = os.pipe()
        if between := os.fork():
            os.close(write)
            os.waitpid(between, 0)  # from here on its child is that of the process that asks
            line.send(os.read(read, 64))
            for number in (read, *files):
                os.close(number)
            continue
        os.close(read)
        between = os.getpid()
        if child := os.fork():
            os.write(write, str(child).encode())
            os._exit(0)
        while os.getppid() == between:
            time.sleep(0.0005)
        os.close(write)
        line.close()
        return _become(request, files)


def _become(request: dict[str, Any], files: Sequence[int]) -> Callable[[], object]:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if request["session"]:
        os.setsid()
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    # The parent's streams may be buffered in another way, and tell the same files.
    for name, unbuffered in (("stdout", "PYTHONUNBUFFERED" in os.environ), ("stderr", True)):
        stream = getattr(sys, name)
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(write_through=unbuffered, line_buffering=name == "stderr")
    what, program, *arguments = request["arguments"]
    sys.path[0] = ""
    sys.argv = ["-c", *arguments]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if what == "-m":
        return lambda: runpy.run_module(program, run_name="__main__", alter_sys=True)
    return lambda: exec(compile(program, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which closes the line when it ends
        _import_everything()
        gc.freeze()  # a page that the collector marks is a page that is copied
        todo = _serve(given)
    if todo is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        todo()
