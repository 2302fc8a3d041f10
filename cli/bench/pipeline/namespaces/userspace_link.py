"""Links with a delay and a rate in a process of their own, where the kernel has no `netem`.

    python -m cli.bench.pipeline.namespaces.userspace_link DELAY_MS MBIT ADDRESS=NAME …

makes a TUN device of each name, prints a line once it has them all, and forwards IPv4 packets among them: a packet
leaves its sender when those before it have left, at the rate, and arrives the delay later. It ends with its parent.
"""

import fcntl
import heapq
import ipaddress
import os
import select
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Final

TUN: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU: Final = 1500
HELD: Final = 1000  # packets of a sender, as many as netem's: more are dropped
BURST: Final = 64  # packets read of one device before others have their turn
NICE: Final = -10  # its delays are to be those of the link, not of a busy machine


class DelayLine:
    """Packets under way, pure: the time is an argument, in seconds."""

    def __init__(self, delay_s: float, bits_per_s: float) -> None:
        self._delay_s, self._seconds_of_byte = delay_s, 8.0 / bits_per_s
        self._free_at: dict[int, float] = {}
        self._held: dict[int, int] = {}
        self._due: list[tuple[float, int, int, bytes]] = []
        self._numbers = count()

    def take(self, sender: int, packet: bytes, now: float) -> bool:
        """A packet that a sender gives to its link. False: it is dropped, since too many wait."""
        if self._held.get(sender, 0) >= HELD:
            return False
        left = max(now, self._free_at.get(sender, 0.0)) + len(packet) * self._seconds_of_byte
        self._free_at[sender] = left
        self._held[sender] = self._held.get(sender, 0) + 1
        heapq.heappush(self._due, (left + self._delay_s, next(self._numbers), sender, packet))
        return True

    def wait_s(self, now: float) -> float | None:
        """Until the next packet arrives; None when none is under way."""
        return max(0.0, self._due[0][0] - now) if self._due else None

    def arrived(self, now: float) -> list[bytes]:
        """Packets that have arrived, the earliest first."""
        found = []
        while self._due and self._due[0][0] <= now:
            _, _, sender, packet = heapq.heappop(self._due)
            self._held[sender] -= 1
            found.append(packet)
        return found


def open_tun(name: str) -> int:
    """A new TUN device's file, which is not waited for. Raises OSError."""
    file = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return file


def forward(tuns: Mapping[bytes, int], line: DelayLine) -> None:
    """Forward packets among the devices, whose files are given by IPv4 address, until the parent is gone."""
    files, parent = list(tuns.values()), os.getppid()
    while os.getppid() == parent:
        for packet in line.arrived(time.monotonic()):
            to = tuns.get(packet[16:20])
            if to is not None:
                _write(to, packet)
        wait_s = line.wait_s(time.monotonic())
        for file in select.select(files, [], [], 1.0 if wait_s is None else min(wait_s, 1.0))[0]:
            for _ in range(BURST):
                try:
                    packet = os.read(file, MTU + 64)
                except OSError:  # all read, or the device is down
                    break
                if packet[:1] and packet[0] >> 4 == 4:
                    line.take(file, packet, time.monotonic())


def _write(file: int, packet: bytes) -> None:
    with suppress(OSError):  # the receiver's device is down or full: a lost packet, which TCP repeats
        os.write(file, packet)


def main(delay_ms: str, mbit: str, *places: str) -> None:
    """See above."""
    tuns = {}
    for place in places:
        address, _, name = place.partition("=")
        tuns[ipaddress.IPv4Address(address).packed] = open_tun(name)
    with suppress(OSError):
        os.nice(NICE)
    print("ready", flush=True)
    forward(tuns, DelayLine(float(delay_ms) / 1e3, float(mbit) * 1e6))


if __name__ == "__main__":
    main(*sys.argv[1:])
