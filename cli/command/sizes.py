"""Human-readable sizes, and the type of progress callbacks."""

from collections.abc import Callable

ByteProgress = Callable[[int], None]  # called with the bytes done since the last call


def no_progress(_done: int) -> None:
    """A progress callback that does nothing."""


def human_size(size: int) -> str:
    """A size in bytes as text with a decimal unit: 98 MB, 1.1 GB."""
    if size >= 10**9:
        return f"{size / 10**9:.1f} GB"
    if size >= 10**6:
        return f"{size / 10**6:.0f} MB"
    return f"{size / 10**3:.0f} kB"
