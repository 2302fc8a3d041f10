"""Joins the processes of a pipeline by torch.distributed: who is who, and the links of the ring.

torchrun, or whatever starts the processes, sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Messages go from rank to
rank over gloo; there is no collective operation.
"""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from services.verifier.stages.link import GlooInbound, GlooOutbound, LinkBroken
from shared.compute.compute import Compute
from shared.runtime.settings import SettingsError

CONNECT_S: Final = 2.0  # one attempt to reach the store
LINKS_S: Final = 30.0  # for the links, once all processes are there
POLL_S: Final = 0.05
FORMED: Final = "formed"  # tokens of the processes that rank 0 takes
INTERFACE: Final = "GLOO_SOCKET_IFNAME"


@dataclass(frozen=True, slots=True)
class Member:
    """This process in its group. world: stages and rank 0."""

    rank: int
    world: int
    address: str  # of rank 0's store
    port: int


@dataclass(frozen=True, slots=True)
class Links:
    """From the rank before and to the next one."""

    inbound: GlooInbound
    outbound: GlooOutbound

    def close(self) -> None:
        """Leave the group."""
        self.inbound.close()
        self.outbound.close()
        dist.destroy_process_group()


def member(stages: int, environ: Mapping[str, str] = os.environ) -> Member:
    """This process by the environment that torchrun sets. stages: as OUTRIDER_STAGES says. Raises SettingsError."""
    try:
        rank, world = int(environ["RANK"]), int(environ["WORLD_SIZE"])
        address, port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
    except KeyError as error:
        raise SettingsError(
            f"OUTRIDER_STAGES={stages}: {error.args[0]} is not set; start {stages + 1} processes with torchrun, "
            f"or the whole stack with `outrider up --stages {stages}`"
        ) from None
    except ValueError as error:
        raise SettingsError(f"RANK, WORLD_SIZE and MASTER_PORT must be numbers: {error}") from None
    if world != stages + 1:
        raise SettingsError(
            f"rank {rank}: OUTRIDER_STAGES={stages} needs WORLD_SIZE={stages + 1}, "
            f"a process for each stage and rank 0; it is {world}"
        )
    if not 0 <= rank < world:
        raise SettingsError(f"RANK={rank}: must be from 0 to {world - 1}")
    return Member(rank, world, address, port)


class Rendezvous:
    """Finds the other ranks at the store of rank 0, or of torchrun. A thread's methods; `join` calls them in turn."""

    def __init__(self, me: Member, token: str) -> None:
        """token: of this process, so that a second one of the same rank is told from it."""
        self._me = me
        self._token = token
        self._store: Any = None

    def connect(self) -> str:
        """Reach the store and register. Returns why that failed, "" when it did not. Raises SettingsError."""
        me, own = self._me, os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "") != "True"
        master = own and me.rank == 0
        try:
            store = TCPStore(
                me.address,
                me.port,
                is_master=master,
                timeout=timedelta(seconds=CONNECT_S),
                wait_for_workers=False,
            )
            self._store = PrefixStore(f"outrider/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
            self._store.set(f"rank {me.rank}", self._token)
        except (RuntimeError, ValueError) as error:
            why = str(error).splitlines()[0]
            if master:
                raise SettingsError(
                    f"MASTER_ADDR={me.address} MASTER_PORT={me.port}: cannot listen: {why}"
                ) from None
            return f"rank 0 is not at {me.address}:{me.port}: {why}"
        return ""

    def absent(self) -> str:
        """Whom we wait for; "" once rank 0 has seen everybody. Raises LinkBroken when we are not among them."""
        me, store = self._me, self._store
        try:
            if me.rank == 0 and not store.check([FORMED]):
                missing = [rank for rank in range(me.world) if not store.check([f"rank {rank}"])]
                if missing:
                    return f"rank {', '.join(map(str, missing))}"
                store.set(FORMED, " ".join(store.get(f"rank {rank}").decode() for rank in range(me.world)))
            if not store.check([FORMED]):
                return "the other ranks"
            members = store.get(FORMED).decode().split(" ")
        except (RuntimeError, ValueError) as error:
            raise LinkBroken(f"rank {me.rank}: rank 0 is gone: {str(error).splitlines()[0]}") from None
        if members[me.rank] != self._token:
            raise LinkBroken(
                f"rank {me.rank} has joined this group already, and a second process of it may not"
            )
        return ""

    def connect_links(self) -> Links:
        """The links to our neighbours. Raises LinkBroken."""
        me = self._me
        if _is_loopback(me.address):
            os.environ.setdefault(INTERFACE, "lo")
        try:
            dist.init_process_group(
                "gloo",
                store=self._store,
                rank=me.rank,
                world_size=me.world,
                timeout=timedelta(seconds=LINKS_S),
            )
        except (RuntimeError, ValueError) as error:
            raise LinkBroken(
                f"rank {me.rank} cannot reach the others: {str(error).splitlines()[0]}"
            ) from None
        return Links(GlooInbound((me.rank - 1) % me.world), GlooOutbound((me.rank + 1) % me.world))


async def join(
    me: Member, token: str, compute: Compute, wait_s: float, waiting: Callable[[str], None]
) -> Links:
    """The links of this rank, once all processes are there. wait_s: at most. waiting: told whom we wait for.

    Raises LinkBroken, which says who is missing, and SettingsError.
    """
    meeting = Rendezvous(me, token)
    deadline = asyncio.get_running_loop().time() + wait_s
    for step in (meeting.connect, meeting.absent):
        while why := await compute.run(step):
            waiting(why)
            if asyncio.get_running_loop().time() > deadline:
                raise LinkBroken(f"rank {me.rank} has waited {wait_s:.0f} s: {why}")
            await asyncio.sleep(POLL_S)
    return await compute.run(meeting.connect_links)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(address)).is_loopback
    except (OSError, ValueError):
        return False
