"""Sessions per device: ours, and those of other shards as its heartbeats report them."""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

from services.scheduler.fleet import address
from shared.protocol.limits import HEARTBEAT_S
from shared.protocol.messages import Heartbeat

STALE_S: Final = 2 * HEARTBEAT_S  # usual maximum age of a heartbeat that we read


class DeviceLoads:
    """Sessions by device address.

    A heartbeat is older than our own count: it may still include sessions that have ended here since. So only its
    excess over our recent peak counts as sessions of other shards.
    """

    def __init__(self) -> None:
        self._ours: Counter[str] = Counter()
        self._peaks: deque[tuple[float, Counter[str]]] = deque()  # (end of an interval, peaks in it)
        self._peak: Counter[str] = Counter()  # peaks of the current interval
        self._others: dict[str, int] = {}

    def add(self, device: str) -> None:
        """Count one more session of ours."""
        self._ours[device] += 1
        self._peak[device] = max(self._peak[device], self._ours[device])

    def remove(self, device: str) -> None:
        """Count one session of ours less."""
        self._ours[device] -= 1

    def update(self, beats: Iterable[Heartbeat], now: float) -> None:
        """Update the other shards' loads from the devices' heartbeats."""
        self._peaks.append((now, self._peak))
        self._ours = +self._ours
        self._peak = self._ours.copy()
        while self._peaks[0][0] < now - STALE_S:
            self._peaks.popleft()
        self._others = {}
        for beat in beats:
            if beat.load:
                device = address(beat)
                ours = max(peak.get(device, 0) for _, peak in self._peaks)
                self._others[device] = max(0, beat.load - ours)

    def __call__(self, device: str) -> int:
        """Known sessions on a device, ours and others'."""
        return self._ours[device] + self._others.get(device, 0)

    def ours(self) -> dict[str, int]:
        """Our sessions by device; devices without any are left out."""
        return dict(+self._ours)
