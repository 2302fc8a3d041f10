"""Where the ranks of a simulated pipeline find each other, group after group."""

import asyncio

from simulator.process import Incarnation
from simulator.stages.ring_link import RankLinks, RingLink
from simulator.stages.stages_spec import StagesSpec


class Meeting:
    """Of one verifier. A group is formed whenever all its ranks wait."""

    def __init__(self, spec: StagesSpec) -> None:
        self._spec = spec
        self._waiting: dict[int, tuple[Incarnation, asyncio.Future[RankLinks]]] = {}

    async def join(self, rank: int, life: Incarnation) -> RankLinks:
        """The links of a rank in the next group."""
        links: asyncio.Future[RankLinks] = asyncio.get_running_loop().create_future()
        self._waiting[rank] = life, links
        self._form()
        try:
            return await links
        finally:
            if self._waiting.get(rank) == (life, links):
                del self._waiting[rank]

    def missing(self) -> list[int]:
        """Ranks that do not wait."""
        return [rank for rank in range(self._spec.count + 1) if rank not in self._waiting]

    def _form(self) -> None:
        waiting = self._waiting
        world = self._spec.count + 1
        if self.missing() or not all(life.alive for life, _ in waiting.values()):
            return
        ring = [RingLink(self._spec, f"rank {(rank + 1) % world}") for rank in range(world)]
        for rank, (life, links) in waiting.items():
            links.set_result(RankLinks(ring[rank - 1], ring[rank], life))
        waiting.clear()
