"""How the processes of a live pipeline find each other: at a store of rank 0, then over gloo, all on one machine."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from cli.bench.pipeline.live.ports import CountingOutbound
from services.verifier.stages.gloo_link import GlooInbound, GlooOutbound
from services.verifier.stages.link import Inbound

ADDRESS: Final = "127.0.0.1"
START_S: Final = 120.0  # for all processes to be there: each loads torch, on a machine that may be busy
LINKS_S: Final = 30.0  # for the links, once they are
TURN_TAG: Final = 1  # of messages that are not the ring's


class Peer(Protocol):
    """Links from a rank and to it."""

    @property
    def inbound(self) -> Inbound:
        """From it."""
        ...

    @property
    def outbound(self) -> CountingOutbound:
        """To it."""
        ...


@dataclass(frozen=True, slots=True)
class GlooPeer:
    """See Peer."""

    inbound: GlooInbound
    outbound: GlooOutbound

    def close(self) -> None:
        """Leave the group."""
        self.inbound.close()
        self.outbound.close()


@dataclass(frozen=True, slots=True)
class RingLinks:
    """From the rank before and to the next one, and for turns: rank 0 with each stage, a stage with rank 0."""

    inbound: GlooInbound
    outbound: GlooOutbound
    turns: tuple[GlooPeer, ...]

    def close(self) -> None:
        """Leave the group."""
        for peer in (GlooPeer(self.inbound, self.outbound), *self.turns):
            peer.close()


def listening_store(world: int) -> TCPStore:
    """Rank 0's store, on a free port of its own choice. Raises RuntimeError."""
    return TCPStore(
        ADDRESS, 0, world, is_master=True, timeout=timedelta(seconds=START_S), wait_for_workers=False
    )


def known_store(address: str, port: int) -> TCPStore:
    """A stage's view of rank 0's store. Raises RuntimeError."""
    return TCPStore(
        address, port, is_master=False, timeout=timedelta(seconds=START_S), wait_for_workers=False
    )


def announce(store: Any, rank: int) -> None:
    """Say that this rank's process is there."""
    store.set(f"rank {rank}", b"here")


def present(store: Any, world: int) -> bool:
    """Are all stages there?"""
    return bool(store.check([f"rank {rank}" for rank in range(1, world)]))


def connect(store: Any, rank: int, world: int, wait_s: float) -> RingLinks:
    """The links of a rank. wait_s: for the others, at most. Raises RuntimeError."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)  # the processes share a machine
    gloo: Any = dist.ProcessGroupGloo  # its type says too little
    group = gloo(store, rank, world, timedelta(seconds=wait_s))
    peers = (0,) if rank else range(1, world)
    return RingLinks(
        GlooInbound(group, (rank - 1) % world),
        GlooOutbound(group, (rank + 1) % world),
        tuple(
            GlooPeer(GlooInbound(group, peer, TURN_TAG), GlooOutbound(group, peer, TURN_TAG))
            for peer in peers
        ),
    )
