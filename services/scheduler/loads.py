"""How many sessions each device has: ours, and what its heartbeats tell of other shards'."""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

from services.scheduler.fleet import address
from shared.protocol.limits import HEARTBEAT_S
from shared.protocol.messages import Heartbeat

STALE_S: Final = 2 * HEARTBEAT_S  # as old as a heartbeat in hand usually is at most


class DeviceLoads:
    """Sessions by device address.

    A heartbeat is older than what we know: it may still count sessions that have left us since. So only what it
    has beyond the most that we had there lately is taken for others'.
    """

    def __init__(self) -> None:
        self._ours: Counter[str] = Counter()
        self._peaks: deque[tuple[float, Counter[str]]] = deque()  # (until when, the most until then)
        self._peak: Counter[str] = Counter()  # since the last of those
        self._others: dict[str, int] = {}

    def add(self, device: str) -> None:
        """One more of ours."""
        self._ours[device] += 1
        self._peak[device] = max(self._peak[device], self._ours[device])

    def remove(self, device: str) -> None:
        """One of ours less."""
        self._ours[device] -= 1

    def update(self, beats: Iterable[Heartbeat], now: float) -> None:
        """What devices say of themselves."""
        self._peaks.append((now, self._peak))
        self._ours = +self._ours
        self._peak = self._ours.copy()
        while self._peaks[0][0] < now - STALE_S:
            self._peaks.popleft()
        self._others = {}
        for beat in beats:
            device = address(beat)
            most = max(peak[device] for _, peak in self._peaks)
            self._others[device] = max(0, beat.load - most)

    def __call__(self, device: str) -> int:
        """All sessions there, as far as we know."""
        return self._ours[device] + self._others.get(device, 0)

    def ours(self) -> dict[str, int]:
        """Our sessions by device, where there are any."""
        return dict(+self._ours)
