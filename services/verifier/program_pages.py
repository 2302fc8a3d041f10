"""Gives back the pages of program files that were read at the start and are not needed again.

Loading torch runs through a hundred MiB of its code, which stays resident until memory is short. What is used again
comes back from the system's cache, page by page.
"""

import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

MAPS: Final = Path("/proc/self/smaps")
DONT_NEED: Final = 4  # MADV_DONTNEED

_madvise: Any = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None


def release_program_pages() -> int:
    """Release all pages of files that are mapped, not writable and unchanged. Returns bytes; 0 where it cannot."""
    if _madvise is None or not MAPS.is_file():
        return 0
    released = 0
    for begin, end, resident in _clean(MAPS.read_text()):
        if _madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONT_NEED) == 0:
            released += resident
    return released


def _clean(maps: str) -> Iterator[tuple[int, int, int]]:
    """(begin, end, resident bytes) of what may be dropped. A page with relocations exists here only."""
    for one in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", maps, flags=re.MULTILINE)[1:]:
        head = one.split(maxsplit=5)
        begin, end = (int(at, 16) for at in head[0].split("-"))
        is_file = one.partition("\n")[0].partition("/")[1]
        fields = dict(re.findall(r"^(\w+): +(\d+) kB$", one, re.MULTILINE))
        if (
            is_file
            and "w" not in head[1]
            and fields.get("Anonymous") == "0"
            and fields.get("Rss", "0") != "0"
        ):
            yield begin, end, int(fields["Rss"]) << 10
