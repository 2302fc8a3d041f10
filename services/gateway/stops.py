"""Stop strings in a stream of text that comes in arbitrary pieces."""

from collections.abc import Sequence


class StopScanner:
    """Passes text on up to the first stop string, whichever is complete first; the rest is swallowed.

    What could still become a stop string is held back: the longest end of the text that begins one. So the
    text passed on is the same however it was cut into pieces, and never contains a stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = ""  # the stop string that ended the text
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> str:
        """What may be passed on now. Once `found` is set, always ""."""
        if self.found or not self._stops:
            return "" if self.found else text
        text = self._held + text
        if (hit := _first(text, self._stops)) is not None:
            start, self.found = hit
            self._held = ""
            return text[:start]
        keep = _longest_beginning(text, self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def _first(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """(start, stop) of the occurrence that ends first, the longest when several end there; None without one."""
    hits = [(at + len(stop), at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    if not hits:
        return None
    _, start, stop = min(hits)
    return start, stop


def _longest_beginning(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of text that are the beginning of a stop string, without being all of it."""
    longest = min(len(text), max(map(len, stops)) - 1)
    for n in range(longest, 0, -1):
        tail = text[len(text) - n :]
        if any(len(stop) > n and stop.startswith(tail) for stop in stops):
            return n
    return 0
