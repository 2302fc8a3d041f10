"""What the emulated links do in fact: their delay and their rate, from one rank to another."""

import socket
import time
from typing import Final

from cli.bench.pipeline.namespaces.network import Network
from cli.command.errors import CommandError

CONNECTS: Final = 21
NOBODY: Final = 9  # a port at which nobody listens
LIMIT_S: Final = 10.0
BYTES: Final = 4_000_000
SKIPPED: Final = 1_000_000  # while the window opens


def hop_ms(network: Network, sender: int, receiver: int) -> float:
    """Half of the time until a connection is refused: median. Raises CommandError, OSError."""
    times = []
    with network.inside(sender):
        for _ in range(CONNECTS):
            began = time.perf_counter()
            try:
                socket.create_connection((network.address(receiver), NOBODY), LIMIT_S).close()
            except ConnectionRefusedError:
                times.append((time.perf_counter() - began) * 1e3 / 2)
            except OSError as error:
                raise CommandError(f"rank {sender} does not reach rank {receiver}: {error}") from None
    return sorted(times)[len(times) // 2]


def mbit(network: Network, sender: int, receiver: int) -> float:
    """Rate at which one TCP connection's bytes arrive. Raises CommandError."""
    with network.inside(receiver):
        listener = socket.create_server((network.address(receiver), 0))
    with (
        listener,
        network.inside(sender),
        socket.create_connection(listener.getsockname()[:2], LIMIT_S) as out,
    ):
        into, _ = listener.accept()
        with into:
            out.setblocking(False)
            into.setblocking(False)
            return _transfer(out, into)


def _transfer(out: socket.socket, into: socket.socket) -> float:
    """Both ends in turn, by one thread."""
    sent = got = begun = 0
    began, limit = 0.0, time.perf_counter() + LIMIT_S
    block = bytes(1 << 16)
    while got < BYTES:
        try:
            if sent < BYTES:
                sent += out.send(block)
        except BlockingIOError:
            pass
        try:
            got += len(into.recv(1 << 18))
        except BlockingIOError:
            time.sleep(0.0005)
        now = time.perf_counter()
        if now > limit:
            raise CommandError(f"only {got} bytes went over a link in {LIMIT_S:g} s")
        if not begun and got >= SKIPPED:
            begun, began = got, now
    return (got - begun) * 8 / (time.perf_counter() - began) / 1e6
