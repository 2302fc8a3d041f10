"""Memory that was freed goes back to the system: glibc keeps it, 400 MiB after batches of many sizes."""

import ctypes
import sys
from typing import Any, Final

PASSES_PER_TRIM: Final = 4  # passes; once takes 1.5 ms, 15 after hundreds of them

_malloc_trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


class MallocTrimmer:
    """Call `passed` after every pass over a model on the CPU."""

    def __init__(self) -> None:
        self._passes = 0

    def passed(self) -> None:
        """Now and then gives back what is free."""
        self._passes += 1
        if _malloc_trim is not None and self._passes % PASSES_PER_TRIM == 0:
            _malloc_trim(0)
