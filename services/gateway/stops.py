"""Finds stop strings in text that arrives in arbitrary pieces."""

from collections.abc import Sequence


class StopScanner:
    """Passes text on up to the first complete stop string and drops the rest.

    The longest suffix that begins a stop string is held back. So the output never contains a stop string and does
    not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.matched = ""  # the stop string that ended the text
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> str:
        """Add text; returns what may be passed on now. Always "" once `matched` is set."""
        if self.matched or not self._stops:
            return "" if self.matched else text
        text = self._held + text
        if (hit := _first(text, self._stops)) is not None:
            start, self.matched = hit
            self._held = ""
            return text[:start]
        keep = _longest_beginning(text, self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text held back, once no more text follows."""
        held, self._held = self._held, ""
        return held


def _first(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """(start, stop) of the occurrence that ends first, the longest of several with that end; None without one."""
    hits = [(at + len(stop), at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    if not hits:
        return None
    _, start, stop = min(hits)
    return start, stop


def _longest_beginning(text: str, stops: Sequence[str]) -> int:
    """Length of the longest suffix of text that is a proper prefix of a stop string."""
    longest = min(len(text), max(map(len, stops)) - 1)
    for n in range(longest, 0, -1):
        tail = text[len(text) - n :]
        if any(len(stop) > n and stop.startswith(tail) for stop in stops):
            return n
    return 0
