"""The limit of open files and connections of this process (RLIMIT_NOFILE)."""

import resource
from contextlib import suppress
from typing import Final

MAX_OPEN_FILES: Final = 65_536  # more than any service opens; some systems have no limit, or one of billions


def raise_open_files() -> int:
    """Raise the soft limit up to the hard one or MAX_OPEN_FILES. Returns the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    new = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < new:
        with suppress(ValueError, OSError):  # macOS has a second, lower limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (new, hard))
    return open_files()


def open_files() -> int:
    """The soft limit, at most MAX_OPEN_FILES."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else min(soft, MAX_OPEN_FILES)
