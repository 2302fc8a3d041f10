"""Ports of a local stack: which ones, whether they are free, and by which option others are chosen."""

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cli.command.errors import CommandError
from shared.runtime.ids import Ids

HOST: Final = "127.0.0.1"
HIGHEST: Final = 65_535
NOT_OUTGOING: Final = (10_000, 32_000)  # systems give outgoing connections higher ports


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the stack listens. Draft worker i has health + 3 + i."""

    gateway: int = 8000
    broker: int = 6399
    health: int = 9101  # gateway, then scheduler, verifier, draft workers

    @staticmethod
    def free(health_ports: int = 8) -> "Ports":
        """Ports nobody uses now: for tests, beside a running stack."""
        first = free_run(2 + health_ports)
        return Ports(gateway=first, broker=first + 1, health=first + 2)

    def filled(self, health_ports: int) -> "Ports":
        """The same with free ports in place of 0."""
        free = Ports.free(health_ports)
        return Ports(self.gateway or free.gateway, self.broker or free.broker, self.health or free.health)


@dataclass(frozen=True, slots=True)
class Claim:
    """A port that the stack is going to listen on, and the option that chooses another."""

    host: str
    port: int
    option: str


def check(claims: Sequence[Claim]) -> None:
    """Raises CommandError for the first port that cannot be listened on, with the option to change."""
    by_place: dict[tuple[str, int], Claim] = {}
    for claim in claims:
        if not 0 < claim.port <= HIGHEST:
            raise CommandError(
                f"{claim.option}: port {claim.port} is needed, and {HIGHEST} is the highest there is"
            )
        other = by_place.setdefault((claim.host, claim.port), claim)
        if other is not claim:
            raise CommandError(
                f"port {claim.port} is needed twice, by {other.option} and by {claim.option}: change one of them"
            )
        _check_free(claim)


def free_run(count: int) -> int:
    """First of `count` neighbouring free ports, none that an outgoing connection may take before a service does."""
    ids = Ids()
    while True:
        first = int(ids.jitter(*NOT_OUTGOING))
        taken: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                taken.append(socket.socket())
                taken[-1].bind((HOST, port))
            return first
        except OSError:
            continue
        finally:
            for holder in taken:
                holder.close()


def _check_free(claim: Claim) -> None:
    family = socket.AF_INET6 if ":" in claim.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Ends of closed connections may still have the port; they keep no server from it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((claim.host, claim.port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise CommandError(
                f"port {claim.port} of {claim.host}: {why}; choose another with {claim.option} (0 = a free one)"
            ) from None
