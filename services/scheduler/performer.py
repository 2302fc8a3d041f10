"""Performs the core's effects through the broker."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from services.scheduler import effects as fx
from services.scheduler.core import Core
from shared.broker.contract import Broker, BrokerFull, SessionLogs, UnknownSession
from shared.protocol.keys import Keys
from shared.protocol.messages import Open
from shared.protocol.session import SessionHead

log = structlog.get_logger()


class Performer:
    """Performs effects. in_force(core): whether the core's term still runs; holder(): the lease holder's name.

    Methods raise BrokerAway and LeaseLost; either ends the term.
    """

    def __init__(
        self, broker: Broker, keys: Keys, in_force: Callable[[Core], bool], holder: Callable[[], str]
    ) -> None:
        self._broker, self._keys = broker, keys
        self._in_force, self._holder = in_force, holder

    async def do(self, core: Core, effects: Sequence[fx.Effect]) -> None:
        """Perform effects kind by kind. Answers from the broker may lead to more effects, which are performed too."""
        while effects and self._in_force(core):
            learnt = False
            by_kind: dict[type[fx.Effect], list[fx.Effect]] = {}
            for effect in effects:
                by_kind.setdefault(type(effect), []).append(effect)
            for kind in sorted(by_kind, key=fx.ORDER.index):
                some = by_kind[kind]
                if kind is fx.Stage or len(some) == 1:
                    for effect in some:  # batches keep their order
                        learnt |= await self.perform(core, effect)
                else:
                    learnt |= any(await asyncio.gather(*(self.perform(core, effect) for effect in some)))
            effects = core.tick(asyncio.get_running_loop().time()) if learnt else ()

    async def perform(self, core: Core, effect: fx.Effect) -> bool:
        """Perform one effect. Returns True when the core received an answer, so that it has to tick again."""
        try:
            return await self._act(core, effect)
        except BrokerFull:
            log.warning("broker full", not_done=type(effect).__name__)
            if isinstance(effect, fx.Stage):
                core.on_stage_refused(effect, asyncio.get_running_loop().time())
            return isinstance(effect, fx.Stage)

    async def _act(self, core: Core, effect: fx.Effect) -> bool:
        broker, keys = self._broker, self._keys
        match effect:
            case fx.Stage():
                await broker.lease.stage(effect.verifier, effect.batch, effect.drafts, self._holder())
            case fx.PlaceSession():
                log.debug("placed", session=effect.session, epoch=effect.epoch, device=effect.device)
                if not await broker.sessions.place(
                    effect.session, effect.epoch, effect.verifier, effect.device
                ):
                    return await self._report_head(core, effect.session)
            case fx.SendToDevice(device, Open() as message):
                await broker.sessions.open(device, message)
            case fx.SendToDevice():
                await broker.streams.send(keys.inbox(effect.device), effect.message)
            case fx.SendToVerifier():
                await broker.streams.push(keys.staged(effect.verifier), effect.message)
            case fx.End():
                log.info("session ended", session=effect.session, finish=effect.close.finish)
                await broker.sessions.end(
                    effect.session, effect.close, effect.verifier, effect.device, effect.gateway
                )
            case fx.AckDraft():
                await broker.streams.ack(keys.draft, [effect.entry])
            case fx.ReadHead():
                return await self._report_head(core, effect.session)
            case fx.Persist():
                await broker.records.put(keys.policy, effect.fields)
            case fx.ReportShares():
                await broker.records.put(keys.shares, effect.fields)
            case fx.Trace():
                await broker.streams.trace(effect.spans)
        return False

    async def _report_head(self, core: Core, session: str) -> bool:
        head = await head_of(self._broker.sessions, session)
        if head is None:
            core.on_missing_log(session)
        else:
            core.on_head(head, asyncio.get_running_loop().time())
        return True


async def head_of(logs: SessionLogs, session: str) -> SessionHead | None:
    """Head of a session's log; None when there is no such log."""
    try:
        return await logs.head(session)
    except UnknownSession:
        return None
