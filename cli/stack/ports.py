"""Ports of a local stack: numbers, checks that they are free, and the options that choose others."""

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cli.command.errors import CommandError
from shared.runtime.ids import Ids

HOST: Final = "127.0.0.1"
MAX_PORT: Final = 65_535
NOT_EPHEMERAL: Final = (10_000, 32_000)  # below the ports that systems give to outgoing connections


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of a stack. health: the gateway's health page; scheduler, verifier and draft workers have the next ones."""

    gateway: int = 8000
    broker: int = 6399
    health: int = 9101

    @staticmethod
    def free(health_ports: int = 8) -> "Ports":
        """Ports that are free now, for tests and for stacks beside a running one."""
        first = free_run(2 + health_ports)
        return Ports(gateway=first, broker=first + 1, health=first + 2)

    def filled(self, health_ports: int) -> "Ports":
        """A copy with free ports in place of 0."""
        free = Ports.free(health_ports)
        return Ports(self.gateway or free.gateway, self.broker or free.broker, self.health or free.health)


@dataclass(frozen=True, slots=True)
class Claim:
    """A port on which the stack will listen, and the option that chooses it."""

    host: str
    port: int
    option: str


def check(claims: Sequence[Claim]) -> None:
    """Raise CommandError for the first port that is invalid, claimed twice or in use; the text names the option."""
    by_place: dict[tuple[str, int], Claim] = {}
    for claim in claims:
        if not 0 < claim.port <= MAX_PORT:
            raise CommandError(f"{claim.option}: port {claim.port} is needed, but the highest is {MAX_PORT}")
        other = by_place.setdefault((claim.host, claim.port), claim)
        if other is not claim:
            raise CommandError(
                f"port {claim.port} is needed twice, by {other.option} and by {claim.option}: change one of them"
            )
        _check_free(claim)


def free_run(count: int) -> int:
    """First of `count` consecutive free ports. No outgoing connection can take them before a service does."""
    ids = Ids()
    while True:
        first = int(ids.jitter(*NOT_EPHEMERAL))
        sockets: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind((HOST, port))
            return first
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()


def _check_free(claim: Claim) -> None:
    family = socket.AF_INET6 if ":" in claim.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As a server does: closed connections in TIME_WAIT do not make the port unusable.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((claim.host, claim.port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise CommandError(
                f"port {claim.port} of {claim.host}: {why}; choose another with {claim.option} (0 = a free one)"
            ) from None
