"""A program's file: loaded, hashed with what it imports from its own folder, and looked through.

Handlers must give the same rows whenever they are run. What is cheap to find is refused: modules whose only use would
be a clock, chance, the network or another process. Connections and processes are refused at work as well
(:func:`forbid_outside`); iteration over sets is made the same in every process (``PYTHONHASHSEED``).
"""

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from indexer.errors import GaplessError
from indexer.programs.program import Program

_FORBIDDEN: Final = {
    "aiohttp": "the network",
    "asyncio": "the order of tasks",
    "http": "the network",
    "httpx": "the network",
    "multiprocessing": "other processes",
    "random": "chance",
    "requests": "the network",
    "secrets": "chance",
    "socket": "the network",
    "subprocess": "other processes",
    "threading": "the order of threads",
    "time": "a clock",
    "urllib": "the network",
    "urllib3": "the network",
    "uuid": "chance",
    "web3": "the network",
}
_CLOCKS: Final = {"now", "utcnow", "today", "urandom"}
_AUDITED: Final = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "urllib.")
_MOST: Final = 5
_guarding = False
_inside = 0


class ProgramFileError(GaplessError):
    """A program's file cannot be used."""


@dataclass(frozen=True, slots=True)
class LoadedProgram:
    """A program that is ready.

    Attributes:
        program: the program.
        path: its file.
        code_hash: SHA-256 of that file, and of those that it imports from its folder.
        files: all of these.
    """

    program: Program
    path: Path
    code_hash: str
    files: tuple[Path, ...]

    def is_changed(self) -> bool:
        """Whether a file is another one than the one that was loaded."""
        try:
            return _hash(self.files) != self.code_hash
        except OSError:
            return True


def load(path: Path) -> LoadedProgram:
    """Run a program's file, and take the program out of it.

    Raises:
        ProgramFileError: it cannot be read or run, has no program, or uses what handlers must not use.
    """
    path = path.resolve()
    try:
        source = path.read_bytes()
        tree = ast.parse(source, filename=str(path))
    except OSError as error:
        raise ProgramFileError(f"{path.name} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ProgramFileError(f"{path.name}{line}: {getattr(error, 'msg', None) or error}") from None
    before = set(sys.modules)
    module = _run(path)
    files = (path, *sorted(_beside(path, before)))
    for file in files:
        if problems := list(_impurities(tree if file == path else ast.parse(file.read_bytes()))):
            raise ProgramFileError(f"{file.name}, {'; '.join(problems[:_MOST])}")
    programs = [value for value in vars(module).values() if isinstance(value, Program)]
    if len({id(one) for one in programs}) != 1:
        found = "no program" if not programs else "several programs"
        raise ProgramFileError(f"{path.name} has {found}: write program = Program(tables=[…]) once")
    if not programs[0].handlers:
        raise ProgramFileError(f'{path.name}: its program handles no event: write @program.on("contract.Event")')
    return LoadedProgram(programs[0], path, _hash(files), files)


def _run(path: Path) -> ModuleType:
    name = f"gapless_program_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise ProgramFileError(f"{path.name}{line}: {type(error).__name__}: {error}") from None
    finally:
        sys.path.remove(str(path.parent))
    return module


def _beside(path: Path, before: set[str]) -> Iterator[Path]:
    """The files of modules that were imported from the folder of a program."""
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or Path(file).suffix != ".py" or "site-packages" in Path(file).parts:
            continue
        found = Path(file).resolve()
        if found.is_relative_to(path.parent) and found != path:
            yield found


def _hash(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        source = file.read_bytes()
        digest.update(f"{file.name} {len(source)}\n".encode() + source)
    return digest.hexdigest()


def _impurities(tree: ast.AST) -> Iterator[str]:
    """What code uses that may be another thing each time, with its line."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CLOCKS:
            yield f"line {node.lineno}: {node.func.attr}() gives another value each time (event.block_time does not)"
        for name in names:
            if (what := _FORBIDDEN.get(name.partition(".")[0])) is not None:
                yield f"line {getattr(node, 'lineno', 0)}: import {name}: handlers must not depend on {what}"


def forbid_outside() -> None:
    """Have Python refuse connections and new processes while handlers run (:func:`handlers_run`)."""
    global _guarding  # noqa: PLW0603 - a hook stays for as long as the process
    if not _guarding:
        _guarding = True
        sys.addaudithook(_refuse)


def _refuse(event: str, _arguments: Any) -> None:
    if _inside and event.startswith(_AUDITED):
        raise PermissionError(f"a handler must not use {event}: its rows would not follow from the events alone")


def handlers_run(count: int) -> None:
    """Note that handlers begin (1) or end (-1) to run."""
    global _inside  # noqa: PLW0603 - read by the hook, which has no other place
    _inside += count
