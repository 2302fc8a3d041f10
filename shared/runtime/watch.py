"""Watches the broker: whether it is up, how long it has been away, and whether it lost its data."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal, Protocol

import structlog

from shared.broker.contract import BrokerAway
from shared.protocol.limits import GRACE_S
from shared.runtime.pause import pause

Event = Literal["away", "lost", "back", "reset"]
PROBE_S: Final = 0.5

log = structlog.get_logger()


class Watched(Protocol):
    """A broker as the core or a device sees it."""

    async def run_id(self) -> str:
        """Id of the server process and its data; another id after a restart without data. Raises BrokerAway."""
        ...


class BrokerWatch:
    """Probes the broker and notifies its listeners of these events.

    away: no answer; streams pause. lost: away for longer than the grace; streams end. back: answers again with
    its data. reset: answers again, but its data is gone (another run id); groups and registrations must be recreated.
    """

    def __init__(
        self,
        broker: Watched,
        grace_s: float = GRACE_S,
        pause_s: float = PROBE_S,
        max_pause_s: float = PROBE_S,
    ) -> None:
        """pause_s: between probes; max_pause_s: the maximum to which it doubles while the broker is lost."""
        self.up = False
        self.lost = False
        self.generation = 0
        self._broker = broker
        self._grace_s = grace_s
        self._pause_s = self._usual_pause_s = pause_s
        self._max_pause_s = max_pause_s
        self._run_id = ""
        self._away_since: float | None = None
        self._listeners: list[Callable[[Event], None]] = []

    def on_change(self, listener: Callable[[Event], None]) -> None:
        """Call listener(event) at every change; it must not block or raise."""
        self._listeners.append(listener)

    async def run(self, stop: asyncio.Event) -> None:
        """Probe until stop is set."""
        while not stop.is_set():
            await self.probe()
            await pause(stop, self._pause_s)

    async def probe(self) -> None:
        """Probe once and notify the listeners of a change."""
        try:
            run_id = await self._broker.run_id()
        except BrokerAway as error:
            self._missed(asyncio.get_running_loop().time(), str(error))
        else:
            self._seen(run_id)

    def _missed(self, now: float, why: str) -> None:
        if self._away_since is None:
            self._away_since = now
            self.up = False
            log.warning("broker away", why=why)
            self._notify("away")
        elif not self.lost and now - self._away_since > self._grace_s:
            self.lost = True
            log.error("broker lost", away_s=round(now - self._away_since, 1))
            self._notify("lost")
        if self.lost:
            self._pause_s = min(2 * self._pause_s, self._max_pause_s)

    def _seen(self, run_id: str) -> None:
        first, changed = not self._run_id, bool(self._run_id) and run_id != self._run_id
        was_away = self._away_since is not None
        self._run_id, self._away_since, self.lost, self.up = run_id, None, False, True
        self._pause_s = self._usual_pause_s
        if changed:
            self.generation += 1
            log.error("broker back without its data", run_id=run_id)
            self._notify("reset")
        elif was_away and not first:
            log.info("broker back")
            self._notify("back")

    def _notify(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
