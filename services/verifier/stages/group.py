"""Joins the processes of a pipeline by torch.distributed: who is who, and the links of the ring.

torchrun, or whatever starts the processes, sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Messages go from rank to
rank over gloo; there is no collective operation.
"""

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from services.verifier.stages.link import GlooInbound, GlooOutbound, LinkBroken
from shared.runtime.settings import SettingsError

JOIN_S: Final = 300.0  # for all ranks to be there
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


def join(me: Member) -> Links:
    """The links of this rank, once all of the group's processes are there. Blocks.

    Raises LinkBroken, which names what is missing, and SettingsError.
    """
    if _is_loopback(me.address):
        os.environ.setdefault(INTERFACE, "lo")
    store = _store(me)
    _refuse_twins(store, me)
    try:
        dist.init_process_group(
            "gloo", store=store, rank=me.rank, world_size=me.world, timeout=timedelta(seconds=JOIN_S)
        )
    except (RuntimeError, ValueError) as error:
        raise LinkBroken(f"rank {me.rank}: the group did not form: {_missing(store, me) or error}") from None
    return Links(GlooInbound((me.rank - 1) % me.world), GlooOutbound((me.rank + 1) % me.world))


def _store(me: Member) -> Any:
    """The store at which the ranks find each other: torchrun's own, or one that rank 0 opens."""
    own = os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "") != "True"
    try:
        store = TCPStore(
            me.address,
            me.port,
            me.world,
            is_master=own and me.rank == 0,
            timeout=timedelta(seconds=JOIN_S),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        place = f"MASTER_ADDR={me.address} MASTER_PORT={me.port}"
        what = "cannot listen on" if own and me.rank == 0 else "does not reach rank 0 at"
        raise SettingsError(f"rank {me.rank} {what} {place}: {str(error).splitlines()[0]}") from None
    return PrefixStore(f"outrider/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _refuse_twins(store: Any, me: Member) -> None:
    """Raise LinkBroken for a second process of the same rank, or one that comes when the group has formed."""
    if store.add(f"rank {me.rank}", 1) > 1:
        raise LinkBroken(f"rank {me.rank} is in this group already; a second process of it may not join")


def _missing(store: Any, me: Member) -> str:
    """The ranks that have not come; "" when all have."""
    try:
        absent = [rank for rank in range(me.world) if store.add(f"rank {rank}", 0) == 0]
    except (RuntimeError, ValueError):
        return ""  # the store is gone as well
    return f"no rank {', '.join(map(str, absent))} within {JOIN_S:.0f} s" if absent else ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(address)).is_loopback
    except (OSError, ValueError):
        return False
