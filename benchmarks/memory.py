"""The largest resident memory of a process, as it was itself."""

import re
import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak() -> int:
    """The largest resident memory of this process since its program began, in bytes.

    ``ru_maxrss`` would not do on Linux: it outlives ``exec``, so a small program that a large one started (a test run,
    say) would be said to be as large as that. ``VmHWM`` (proc(5)) is of the program's own memory.
    """
    if _STATUS.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
