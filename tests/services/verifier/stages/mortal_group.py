"""A whole pipeline on virtual time whose ranks die at a chosen await, and come back: their roles, links and broker.

Every rank is what `serve_rank` runs in a process: its role, served in one group after another. Links and broker are in
memory. A dead rank's links are cut and its connection to the broker is closed, so that nothing it does while it is
cancelled reaches anybody; what it has sent arrives. A new one takes its place, and reads its layers anew.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from prometheus_client import CollectorRegistry

from services.verifier.build import build_tree_drafter
from services.verifier.stages.front import FrontParts, FrontRank, Readiness
from services.verifier.stages.link import SEND_S, LinkBroken, Links
from services.verifier.stages.member import Member
from services.verifier.stages.messages import Failed, Message, Piece, Result, decode, encode
from services.verifier.stages.rank_loop import Role, StageRank, serve_once
from services.verifier.stages.rank_parts import Assigner, BlockLoader, FrontLoader, ModelPlan
from shared.broker.contract import BrokerAway
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.compute.compute import InlineCompute
from shared.runtime.settings import VerifierSettings
from tests.services.verifier.stages.rings import facts

POINTS: Final = ("unsent", "sent", "computed", "decided", "committed")


@dataclass(frozen=True, slots=True)
class Death:
    """A rank dies when this happens for the nth time since the group was formed.

    unsent, sent: rank 0 is about to send a piece, or has just sent it. computed: the first stage is about to pass one
    on. decided: rank 0 is about to send a commit. committed: the broker has carried it out, and rank 0 does not know.
    """

    rank: int
    point: str
    nth: int


@dataclass
class Fate:
    """Carries out deaths one after the other. fallen: those that came about."""

    deaths: list[Death]
    fallen: list[Death] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    group: "MortalGroup | None" = None

    async def at(self, point: str, here: int) -> None:
        """Something happens in rank `here`; it never returns when that is the one that dies."""
        self.seen[point] += 1
        due = self.deaths[0] if self.deaths else None
        if self.group is None or due is None or (due.point, due.nth) != (point, self.seen[point]):
            return
        self.fallen.append(self.deaths.pop(0))
        self.group.kill(due.rank)
        if due.rank == here:
            await asyncio.Event().wait()


class Wire:
    """A link between two ranks, as a connection is: what was sent arrives, also when the sender dies."""

    def __init__(self, fate: Fate, rank: int) -> None:
        """rank: that sends."""
        self._fate = fate
        self._rank = rank
        self._carried: asyncio.Queue[bytes] = asyncio.Queue()
        self._cut = asyncio.Event()
        self.sent_bytes = 0

    async def send(self, message: Message, limit_s: float = SEND_S) -> None:
        """See Outbound."""
        passes = isinstance(message, Piece | Result)
        if passes and self._rank <= 1:
            await self._fate.at("unsent" if self._rank == 0 else "computed", self._rank)
        if self._cut.is_set():
            raise LinkBroken("the link was cut")
        self._carried.put_nowait(encode(message))
        if passes and self._rank == 0:
            await self._fate.at("sent", 0)

    async def receive(self, limit_s: float) -> Message:
        """See Inbound."""
        getting, cut = asyncio.ensure_future(self._carried.get()), asyncio.ensure_future(self._cut.wait())
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.wait((getting, cut), return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return decode(getting.result())
        except TimeoutError:
            pass
        finally:
            getting.cancel()
            cut.cancel()
        raise LinkBroken("the neighbour is gone or silent")

    def close(self) -> None:
        """Carry nothing any more."""
        self._cut.set()


class BrokerWire:
    """Rank 0's way to the broker."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate
        self.cut = False

    async def before(self, operation: str, sent: int) -> None:
        """See BrokerLink."""
        await asyncio.sleep(0)
        if operation == "commit":
            await self._fate.at("decided", 0)
        self._check()

    async def after(self, operation: str, received: int) -> None:
        """See BrokerLink."""
        if operation == "commit":
            await self._fate.at("committed", 0)
        self._check()

    def copies(self, stream: str, data: bytes) -> int:
        """See BrokerLink."""
        return 1

    def _check(self) -> None:
        if self.cut:
            raise BrokerAway("the process is dead")


class MortalGroup:
    """Ranks 0 to `settings.stages`, in one group after another until `stop` is set."""

    def __init__(
        self, settings: VerifierSettings, plan: ModelPlan, server: MemoryServer, deaths: Sequence[Death]
    ) -> None:
        self.fate = Fate(list(deaths), group=self)
        self.groups = 0  # that were formed
        self.started: Counter[int] = Counter()  # processes, by rank
        self.stop = asyncio.Event()
        self._settings, self._plan, self._server = settings, plan, server
        self._world = settings.stages + 1
        self._roles: dict[int, Role] = {}
        self._serving: dict[int, asyncio.Task[Any]] = {}
        self._wires: list[Wire] = []
        self._broker_wire = BrokerWire(self.fate)

    async def run(self) -> None:
        """Serve until `stop`. Raises what no rank may end with."""
        while not self.stop.is_set():
            self.groups += 1
            self.fate.seen.clear()
            self._wires = [Wire(self.fate, rank) for rank in range(self._world)]
            for rank in range(self._world):
                if rank not in self._roles:
                    self.started[rank] += 1
                    self._roles[rank] = self._process(rank)
            self._serving = {rank: asyncio.ensure_future(self._serve(rank)) for rank in range(self._world)}
            ended = await asyncio.gather(*self._serving.values(), return_exceptions=True)
            for rank, error in enumerate(ended):
                if isinstance(error, BaseException) and rank in self._roles:
                    raise error

    def kill(self, rank: int) -> None:
        """Like SIGKILL: nothing that it does from now on reaches anybody."""
        self._wires[rank].close()
        self._wires[rank - 1].close()
        if rank == 0:
            self._broker_wire.cut = True
        del self._roles[rank]
        self._serving[rank].cancel()

    def _process(self, rank: int) -> Role:
        """A rank that has just started."""
        settings, registry, ready = self._settings, CollectorRegistry(), Readiness()
        own = facts(rank, kv_tokens=settings.kv_tokens, page_tokens=settings.page_tokens, token_ms=0.1)
        if rank:
            me = Member(rank, self._world, "", 0)
            return StageRank(me, InlineCompute(), ready, own, BlockLoader(settings, self._plan, rank))
        self._broker_wire = BrokerWire(self.fate)
        broker = MemoryBroker(self._server, link=self._broker_wire)
        parts = FrontParts(
            own,
            Assigner(settings, self._plan),
            FrontLoader(settings, self._plan),
            partial(build_tree_drafter, settings),
        )
        return FrontRank(settings, broker, InlineCompute(), registry, ready, parts)

    async def _serve(self, rank: int) -> None:
        me = Member(rank, self._world, "", 0)
        links: Links = _Links(self._wires[rank - 1], self._wires[rank])
        await serve_once(self._roles[rank], me, links, self.stop)


@dataclass(frozen=True, slots=True)
class _Links:
    """See Links. A dead rank's last word is not heard, since its links are cut before."""

    inbound: Any
    outbound: Wire

    async def leave(self, notice: Failed | None) -> None:
        """See Links."""
        if notice is not None:
            with suppress(LinkBroken):
                await self.outbound.send(notice)
        self.inbound.close()
        self.outbound.close()
