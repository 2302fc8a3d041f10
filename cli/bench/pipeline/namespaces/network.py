"""A network namespace for each rank, all connected by links with a delay and a rate.

With `tc netem` each rank has a virtual cable (veth) to a bridge in a further namespace, and netem at its own end of
it. Where the kernel has no netem a process forwards the packets instead, see userspace_link.py. Nothing is added to
the namespace that the command was started in.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from cli.bench.pipeline.namespaces.userspace_link import TUN
from cli.command.errors import CommandError

Kind = Literal["netem", "userspace"]
KINDS: Final[tuple[Kind, ...]] = ("netem", "userspace")
PACKAGE: Final = "install iproute2, which has ip and tc"
DEVICE: Final = "link0"  # in each rank's namespace
SUBNET: Final = "10.213.78"
FIRST: Final = 10  # last number of rank 0's address
CLONE_NEWNET: Final = 0x40000000
USERSPACE: Final = "cli.bench.pipeline.namespaces.userspace_link"
END_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a link: every message's delay one way, and the sender's rate."""

    delay_ms: float
    mbit: float


class NoNamespaces(CommandError):
    """This machine does not allow what is needed; the text says what."""


class Network:
    """Namespaces of ranks 0 … ranks - 1. Use as `with Network(…) as network`. kind: how packets are delayed."""

    def __init__(self, ranks: int, shape: Shape, kind: Kind | None = None) -> None:
        """kind: None = netem where the kernel has it."""
        self.ranks, self.shape = ranks, shape
        self._requested = kind
        self.kind: Kind = kind or "netem"
        self._hub = f"outrider-{os.getpid()}-hub"
        self._made: list[str] = []
        self._forwarder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Network":
        try:
            self._make()
        except BaseException:  # also Ctrl-C: no namespace may stay; raised again
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def name(self, rank: int) -> str:
        """Of the rank's namespace."""
        return f"outrider-{os.getpid()}-{rank}"

    @staticmethod
    def address(rank: int) -> str:
        """Of the rank, for the others."""
        return f"{SUBNET}.{FIRST + rank}"

    def argv(self, rank: int, argv: Sequence[str]) -> tuple[str, ...]:
        """A command line that runs another one as this rank."""
        return ("ip", "netns", "exec", self.name(rank), *argv)

    @contextmanager
    def inside(self, rank: int) -> Iterator[None]:
        """This thread, and the processes and sockets that it makes, are in the rank's namespace."""
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            namespace = os.open(f"/run/netns/{self.name(rank)}", os.O_RDONLY)
            try:
                _enter(namespace)
            finally:
                os.close(namespace)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def sent(self, rank: int) -> tuple[int, int]:
        """Bytes and packets that the rank has sent, with all headers and acknowledgements."""
        found: Any = json.loads(run_ip("-n", self.name(rank), "-s", "-j", "link", "show", "dev", DEVICE))
        counted = found[0]["stats64"]["tx"]
        return counted["bytes"], counted["packets"]

    def remove(self) -> None:
        """Remove all that was made."""
        if self._forwarder is not None:
            self._forwarder.terminate()
            try:
                self._forwarder.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                self._forwarder.kill()
                self._forwarder.communicate()
            self._forwarder = None
        while self._made:
            subprocess.run(("ip", "netns", "del", self._made.pop()), check=False, capture_output=True)  # noqa: S603, S607

    def _make(self) -> None:
        if os.geteuid() != 0:
            raise NoNamespaces("network namespaces need root: run the command as root")
        for name in (self._hub, *map(self.name, range(self.ranks))):
            run_ip("netns", "add", name)
            self._made.append(name)
        if self._requested is None and not self._has_netem():
            self.kind = "userspace"
        connect = self._connect_netem if self.kind == "netem" else self._connect_userspace
        connect()

    def _has_netem(self) -> bool:
        try:
            self._delay(self._hub, "lo")
        except NoNamespaces as error:
            if "unknown" in str(error) or "not found" in str(error) or "No such file" in str(error):
                return False
            raise
        return True

    def _delay(self, namespace: str, device: str) -> None:
        shape = self.shape
        words = ("netem", "delay", f"{shape.delay_ms}ms", "rate", f"{round(shape.mbit * 1e3)}kbit")
        _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", *words)

    def _connect_netem(self) -> None:
        run_ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        run_ip("-n", self._hub, "link", "set", "bridge", "up")
        for rank in range(self.ranks):
            name, port = self.name(rank), f"port{rank}"
            cable = ("type", "veth", "peer", "name", DEVICE, "netns", name)
            run_ip("-n", self._hub, "link", "add", port, *cable)
            run_ip("-n", self._hub, "link", "set", port, "master", "bridge", "up")
            self._up(rank)
            self._delay(name, DEVICE)

    def _connect_userspace(self) -> None:
        if not Path(TUN).exists():
            raise NoNamespaces(f"this kernel has neither tc netem (sch_netem) nor {TUN}: load one of them")
        names = [f"tun{rank}" for rank in range(self.ranks)]
        places = [f"{self.address(rank)}={name}" for rank, name in enumerate(names)]
        shape = self.shape
        words = (sys.executable, "-m", USERSPACE, str(shape.delay_ms), str(shape.mbit), *places)
        argv = ("ip", "netns", "exec", self._hub, *words)
        self._forwarder = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603
        out: IO[bytes] | None = self._forwarder.stdout
        if out is None or out.readline() != b"ready\n":
            _, said = self._forwarder.communicate()
            raise NoNamespaces(f"no TUN devices: {said.decode(errors='replace').strip().splitlines()[-1:]}")
        for rank, name in enumerate(names):
            run_ip("-n", self._hub, "link", "set", name, "netns", self.name(rank))
            run_ip("-n", self.name(rank), "link", "set", name, "name", DEVICE)
            self._up(rank)

    def _up(self, rank: int) -> None:
        name = self.name(rank)
        run_ip("-n", name, "link", "set", "lo", "up")
        run_ip("-n", name, "addr", "add", f"{self.address(rank)}/24", "dev", DEVICE)
        run_ip("-n", name, "link", "set", DEVICE, "up")


def run_ip(*words: str) -> str:
    """Output of an `ip` command. Raises NoNamespaces."""
    return _run("ip", *words)


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError:
        raise NoNamespaces(f"{argv[0]} is needed but not installed: {PACKAGE}") from None
    if done.returncode:
        why = " ".join(done.stderr.split())
        raise NoNamespaces(f"this machine does not allow it: {' '.join(argv)}: {why}")
    return done.stdout


def _enter(namespace: int) -> None:
    """Raises OSError. Python's own os.setns came with 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
