"""Memory that was freed and is not given back: the C library's arenas.

glibc gives each of many threads an arena of its own, and what one frees no other takes. A process whose threads hand
large buffers on to one another keeps a sixth more than it needs. Other systems' libraries do not do that.
"""

import contextlib
import ctypes

_M_ARENA_MAX = -8  # malloc.h
ARENAS = 2


def share_arenas() -> None:
    """Lets all threads share few arenas; nothing where the C library is another one. Call it before threads begin."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
