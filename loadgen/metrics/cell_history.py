"""What a cell's members had of it over time: bytes, parts of the band, and how fair that was."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from loadgen.metrics.summary import jain
from shared.cells.cell import Cell, Usage

FIRST_STEP_S: Final = 1.0
MAX_STEPS: Final = 240  # of a history; from there on steps are twice as long
DRAWN: Final = 32  # members whose series is kept, those with the most bytes; sums are of all


class CellHistory:
    """Looks at a cell now and then. Every step holds what a member got in it."""

    def __init__(self, cell: Cell, now: float) -> None:
        """now: the beginning; what members had before does not count."""
        self._cell = cell
        self._step_s = FIRST_STEP_S
        self._looks: list[tuple[float, dict[str, Usage]]] = [(now, _copied(cell.usage(now)))]
        self._given: list[Mapping[str, float]] = []  # in force at the end of each step

    def look(self, now: float, last: bool = False) -> None:
        """Note the state if a step is over, or the last one whatever its length."""
        since_s = now - self._looks[-1][0]
        if since_s <= 0 or (since_s < self._step_s and not last):
            return
        self._looks.append((now, _copied(self._cell.usage(now))))
        self._given.append(self._cell.widths() if self._cell.sharing != "contention" else {})
        if len(self._looks) > MAX_STEPS:
            self._looks, self._given = self._looks[::2], self._given[1::2]
            self._step_s *= 2

    def body(self) -> dict[str, Any]:
        """For a result file. `share`: of the band, mean; `given`: what a device might have had, null = not fixed.

        jain_bytes, jain_share: Jain's index over the devices, from 1/n to 1.
        """
        (began, before), (ended, after) = self._looks[0], self._looks[-1]
        seconds = ended - began
        had = {name: _difference(after[name], before.get(name, Usage())) for name in after}
        drawn = sorted(had, key=lambda name: -had[name].up_bits - had[name].down_bits)[:DRAWN]
        return {
            "bandwidth": self._cell.band_hz,
            "sharing": self._cell.sharing,
            "duplex": len(self._cell.bands) > 1,
            "seconds": seconds,
            "jain_bytes": jain([usage.up_bits + usage.down_bits for usage in had.values()]),
            "jain_share": jain([usage.hz_s for usage in had.values()]),
            "devices": [
                {
                    "device": name,
                    "up_bytes": round(usage.up_bits / 8, 1),
                    "down_bytes": round(usage.down_bits / 8, 1),
                    "share": self._share(usage, seconds),
                }
                for name, usage in had.items()
            ],
            "at_s": [round(at - began, 6) for at, _ in self._looks[1:]],
            "series": {name: self._series(name) for name in had if name in drawn},
        }

    def _series(self, name: str) -> Mapping[str, Sequence[float | None]]:
        """A member's bytes, and its used and given shares of the band, by step."""
        steps = [
            (later - at, _difference(found.get(name, Usage()), before.get(name, Usage())))
            for (at, before), (later, found) in zip(self._looks, self._looks[1:], strict=False)
        ]
        band_hz = self._cell.band_hz
        return {
            "bytes": [round((usage.up_bits + usage.down_bits) / 8, 1) for _, usage in steps],
            "share": [self._share(usage, seconds) for seconds, usage in steps],
            "given": [round(given[name] / band_hz, 6) if name in given else None for given in self._given],
        }

    def _share(self, usage: Usage, seconds: float) -> float:
        had_hz_s = seconds * self._cell.band_hz * len(self._cell.bands)
        return round(usage.hz_s / had_hz_s, 6) if seconds else 0.0


def _copied(usage: Mapping[str, Usage]) -> dict[str, Usage]:
    return {name: Usage(one.up_bits, one.down_bits, one.hz_s) for name, one in usage.items()}


def _difference(after: Usage, before: Usage) -> Usage:
    """What came between; floats may differ by a rounding, so not below nothing."""
    return Usage(
        max(0.0, after.up_bits - before.up_bits),
        max(0.0, after.down_bits - before.down_bits),
        max(0.0, after.hz_s - before.hz_s),
    )
