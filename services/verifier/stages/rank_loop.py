"""A rank's way from group to group.

When a rank dies, the others leave their group, keep what they have loaded, and join the next one with whoever takes its
place. So only the rank that died has to start and load.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, Protocol, TypeVar

import structlog

from services.verifier.stages.front import Readiness
from services.verifier.stages.link import LinkBroken, Links
from services.verifier.stages.member import Member
from services.verifier.stages.messages import Facts, Failed
from services.verifier.stages.stage import Cost, Load, RankFailed, RankUnfit, Stage
from shared.compute.compute import Compute
from shared.runtime.errors import words
from shared.runtime.service import BadFile, Lost
from shared.runtime.settings import SettingsError

STOP_S: Final = (
    8.0  # a stage that is told to stop waits so long for rank 0 to end the group, which loses nothing
)

T = TypeVar("T")

log = structlog.get_logger()


class Role(Protocol):
    """What a rank does in a group."""

    async def serve(self, links: Links, stop: asyncio.Event) -> None:
        """Work until the group ends. Raises Lost when others are gone, and SettingsError when it cannot work."""
        ...


class StageRank:
    """Computes layers until rank 0 ends the group, so that nothing is cut off by a signal to all processes."""

    def __init__(
        self,
        me: Member,
        compute: Compute,
        ready: Readiness,
        facts: Facts,
        load: Load,
        cost_s: Cost = lambda _: 0.0,
    ) -> None:
        """cost_s: modelled seconds of a piece; 0.0 for real work."""
        self._me = me
        self._compute = compute
        self._ready = ready
        self._facts = facts
        self._load = load
        self._cost_s = cost_s

    async def serve(self, links: Links, stop: asyncio.Event) -> None:
        """See Role."""
        last = self._me.rank == self._me.world - 1
        stage = Stage(
            self._facts, last, links.inbound, links.outbound, self._compute, self._load, self._cost_s
        )
        self._ready.reason = None
        running = asyncio.ensure_future(stage.run())
        try:
            if not await done_before(running, stop):
                await asyncio.wait((running,), timeout=STOP_S)
                if not running.done():
                    raise Lost("its process was stopped")
            running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def serve_groups(
    role: Role, me: Member, join: Callable[[], Coroutine[Any, Any, Links]], stop: asyncio.Event
) -> None:
    """Join a group and serve in it, and in those after it, until stop is set or somebody does not come back.

    join: leaves the group before, if there was one. Raises Lost, SettingsError and BadFile.
    """
    while True:
        links = await unless(join(), stop)
        if links is None or not await serve_once(role, me, links, stop):
            return


async def serve_once(role: Role, me: Member, links: Links, stop: asyncio.Event) -> bool:
    """Serve in one group, and leave it. Whether to join the next one. Raises what another group would not mend."""
    notice: Failed | None = Failed(me.rank, "its process has ended")
    try:
        await role.serve(links, stop)
        notice = None
        return me.rank > 0 and not me.elastic  # rank 0 may be replaced by a newer one
    except Exception as raised:
        error = weightiest(raised)
        notice = None  # where it was passed on already
        if not isinstance(error, RankFailed | RankUnfit):
            notice = Failed(me.rank, words(error)[:2000], final=isinstance(error, SettingsError | BadFile))
        own = isinstance(error, RankFailed) and error.failed.rank == me.rank
        if stop.is_set() and isinstance(error, Lost):
            return False
        if not isinstance(error, Lost) or own or me.elastic:
            raise error from None
        log.warning("the group has ended", why=str(error))
        return True
    finally:
        await links.leave(notice)


def weightiest(error: BaseException) -> BaseException:
    """Of the errors in a group the one that says most: what is no loss of others, who failed, a broken link."""
    found = list(_leaves(error))
    return min(
        found,
        key=lambda one: (
            isinstance(one, Lost),
            not isinstance(one, RankFailed),
            not isinstance(one, LinkBroken),
        ),
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


async def unless(work: "Coroutine[Any, Any, T]", stop: asyncio.Event) -> T | None:
    """The work's result; None when stop is set before it ends, which cancels it."""
    task = asyncio.ensure_future(work)
    if await done_before(task, stop):
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


async def done_before(task: "asyncio.Future[Any]", stop: asyncio.Event) -> bool:
    """Whether the task ends before stop is set."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    return task.done()
