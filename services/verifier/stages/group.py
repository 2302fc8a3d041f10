"""Joins the processes of a pipeline by torch.distributed: the links of the ring.

Messages go from rank to rank over gloo; there is no collective operation. Each group has a process group of its own, so
that a process can leave one and join the next.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

import torch.distributed as dist

from services.verifier.stages.gloo_link import GlooInbound, GlooOutbound
from services.verifier.stages.link import LAST_S, LinkBroken, reason
from services.verifier.stages.member import Member
from services.verifier.stages.messages import Failed
from services.verifier.stages.rendezvous import CONNECT_S, Rendezvous, own_address
from shared.compute.compute import Compute

LINKS_S: Final = 5.0  # of one attempt at a link, once all are there; gloo makes five before it gives up
POLL_S: Final = 0.05
INTERFACE: Final = "GLOO_SOCKET_IFNAME"  # gloo's own variable, which goes before what we find


@dataclass(frozen=True, slots=True)
class GlooLinks:
    """From the rank before and to the next one."""

    inbound: GlooInbound
    outbound: GlooOutbound

    async def leave(self, notice: Failed | None) -> None:
        """Leave the group. notice: sent to the next rank, so that it need not wait for silence; None = it knows."""
        if notice is not None:
            with suppress(LinkBroken):
                await self.outbound.send(notice, LAST_S)
        self.inbound.close()
        self.outbound.close()


def connect_links(me: Member, meeting: Rendezvous) -> GlooLinks:
    """The links to our neighbours, once the group is formed. Blocks. Raises LinkBroken."""
    gloo: Any = dist.ProcessGroupGloo  # its type says too little
    options = gloo._Options()
    options._timeout = timedelta(seconds=LINKS_S)
    try:
        address = "" if os.environ.get(INTERFACE) else own_address(me.address, me.port)
        device = gloo.create_device(hostname=address) if address else gloo.create_default_device()
        options._devices = [device]
        group = gloo(meeting.store, me.rank, me.world, options)
    except (RuntimeError, ValueError) as error:
        raise LinkBroken(f"rank {me.rank} cannot reach the others: {reason(error)}") from None
    return GlooLinks(
        GlooInbound(group, (me.rank - 1) % me.world), GlooOutbound(group, (me.rank + 1) % me.world)
    )


async def join(
    me: Member, meeting: Rendezvous, compute: Compute, wait_s: float, waiting: Callable[[str], None]
) -> GlooLinks:
    """The links of this rank, once all processes are there. wait_s: at most. waiting: told whom we wait for.

    Raises LinkBroken, which says who is missing, and SettingsError.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while True:
        try:
            async with asyncio.timeout_at(deadline + CONNECT_S):
                why = await compute.run(partial(meeting.wait_for, loop.time()))
        except TimeoutError:  # the store's client waits for ever where something else listens
            raise LinkBroken(
                f"rank {me.rank} has waited {wait_s:g} s for an answer of rank 0 at {me.address}:{me.port}; "
                "another program may have that port: choose another MASTER_PORT for all ranks"
            ) from None
        if not why:
            try:
                return await compute.run(lambda: connect_links(me, meeting))
            except LinkBroken as error:  # somebody died meanwhile: there will be another round
                meeting.leave()
                why = str(error)
        waiting(why)
        if loop.time() > deadline:
            raise LinkBroken(
                f"rank {me.rank} has waited {wait_s:g} s (OUTRIDER_STAGE_WAIT_S) for {why}; "
                "start what is missing, with the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
            )
        await asyncio.sleep(POLL_S)
