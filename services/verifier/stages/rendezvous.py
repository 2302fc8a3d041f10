"""How the ranks of a group find each other: a key-value store at rank 0 (or torchrun's own), read in short turns.

A group is formed in a *round*, which rank 0 opens. Every process writes its token under its rank, again and again, so
that rank 0 counts only processes that are alive; when all are there, it writes down whose tokens it takes. When a group
has ended, rank 0 opens the next round in the same store, and those that are left meet there again.
"""

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from torch._C._distributed_c10d import PrefixStore, TCPStore

from services.verifier.stages.link import LinkBroken, reason
from services.verifier.stages.member import Member
from shared.runtime.settings import SettingsError

CONNECT_S: Final = 2.0  # one attempt to reach the store, and one answer of it
FRESH_S: Final = 3.0  # without a new sign of life a process is not counted
LATE_S: Final = (
    90.0  # a group without us that lives on for so long, links tried or silent, has another of our rank
)
ROUND: Final = "round"
FORMED: Final = "formed"


@dataclass(slots=True)
class _Sign:
    """What a process wrote last, and when rank 0 saw it first."""

    text: bytes
    seen: float


class Rendezvous:
    """One process's side, over all rounds. Methods block for a moment: they are called on a thread, one at a time."""

    def __init__(self, me: Member, token: str) -> None:
        """token: of this process, so that a second one of the same rank is told from it."""
        self._me = me
        self._token = token
        self._server: Any = None  # rank 0's, for as long as the process lives
        self._store: Any = None
        self._round = ""  # that we stand in
        self._left = ""  # that we were a member of
        self._signs: dict[int, _Sign] = {}
        self._written = 0
        self._late_since = 0.0

    @property
    def store(self) -> Any:
        """Where the members of this round find each other's addresses."""
        return PrefixStore(f"links {self._round}", self._store)

    def leave(self) -> None:
        """The group of our round has ended."""
        self._left, self._round = self._round, ""

    def wait_for(self, now: float) -> str:
        """One turn: whom we wait for; "" once the group is formed with us. now: in seconds.

        Raises SettingsError when rank 0 cannot listen or has another number of ranks, and LinkBroken when another
        process has our place.
        """
        if self._store is None and (why := self._connect()):
            return why
        try:
            return self._turn(now)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, LinkBroken | SettingsError):
                raise
            self._store = None
            return f"rank 0 at {self._me.address}:{self._me.port}: {reason(error)}"

    def _turn(self, now: float) -> str:
        me, store = self._me, self._store
        if me.rank == 0 and self._round == "":
            self._open()
        if not store.check([ROUND]):
            return "rank 0"
        current, world = store.get(ROUND).decode().split(" ")
        if int(world) != me.world:
            raise SettingsError(
                f"rank {me.rank}: WORLD_SIZE={me.world}, but rank 0 has {world}; "
                "give all ranks the same WORLD_SIZE and OUTRIDER_STAGES"
            )
        if current == self._left:  # rank 0 has not noticed yet that it has ended
            return "rank 0 to leave the last group"
        if current != self._round:
            self._round, self._late_since = current, now
        self._written += 1
        store.set(f"{current} {me.rank}", f"{self._token} {self._written}")
        formed = f"{current} {FORMED}"
        if not store.check([formed]):
            self._late_since = now
            missing = f"{current} missing"
            if me.rank:
                return store.get(missing).decode() if store.check([missing]) else "the other ranks"
            if why := self._missing(now):
                store.set(missing, why)
                return why
            tokens = [self._signs[rank].text.decode().split(" ")[0] for rank in range(1, me.world)]
            store.set(formed, " ".join([self._token, *tokens]))
        if store.get(formed).decode().split(" ")[me.rank] == self._token:
            return ""
        if now - self._late_since > LATE_S:
            raise LinkBroken(
                f"rank {me.rank} is in the group already, as another process that goes on; "
                "end that one, or give this one a RANK of its own"
            )
        return "the end of a group that has this rank already"

    def _open(self) -> None:
        """Rank 0: open the next round."""
        self._written += 1
        self._signs = {}
        self._store.set(ROUND, f"{self._token}-{self._written} {self._me.world}")

    def _missing(self, now: float) -> str:
        """Rank 0: the ranks of which no process gave a sign of life lately, in words; "" when all are there."""
        missing = []
        for rank in range(1, self._me.world):
            key = f"{self._round} {rank}"
            text = self._store.get(key) if self._store.check([key]) else b""
            sign = self._signs.get(rank)
            if text and (sign is None or sign.text != text):
                self._signs[rank] = sign = _Sign(text, now)
            if sign is None or now - sign.seen > FRESH_S:
                missing.append(rank)
        return f"rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}" if missing else ""

    def _connect(self) -> str:
        """Reach the store; rank 0 opens it first. Returns why that failed. Raises SettingsError."""
        me, agent = self._me, os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "") == "True"
        if me.rank == 0 and not agent and self._server is None:
            self._server = self._listen()
        try:
            socket.create_connection((me.address, me.port), CONNECT_S).close()  # its errors say more
            store = TCPStore(
                me.address, me.port, timeout=timedelta(seconds=CONNECT_S), wait_for_workers=False
            )
        except (OSError, RuntimeError, ValueError) as error:
            return f"rank 0, which is not at {me.address}:{me.port}: {reason(error)}"
        self._store = PrefixStore(f"outrider/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        return ""

    def _listen(self) -> Any:
        """Rank 0's store, at MASTER_ADDR alone where that is an address of this machine. Raises SettingsError."""
        me = self._me
        try:
            try:
                listener = socket.create_server((me.address, me.port), family=_family(me.address))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL and not isinstance(error, socket.gaierror):
                    raise
                # A name or address that leads here from elsewhere, through a forwarder or before it is published.
                listener = socket.create_server(("", me.port))
            return TCPStore(
                me.address,
                me.port,
                is_master=True,
                timeout=timedelta(seconds=CONNECT_S),
                wait_for_workers=False,
                master_listen_fd=listener.detach(),
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise SettingsError(
                f"rank 0: MASTER_ADDR={me.address} MASTER_PORT={me.port}: cannot listen: {reason(error)}; "
                "choose a free port, the same for all ranks"
            ) from None


def own_address(master: str, port: int) -> str:
    """The address of this machine on its way to rank 0; "" when there is none."""
    try:
        with socket.socket(_family(master), socket.SOCK_DGRAM) as probe:
            probe.connect((master, port))  # sends nothing
            address: str = probe.getsockname()[0]
            return address
    except OSError:
        return ""


def _family(address: str) -> socket.AddressFamily:
    """IPv4 or IPv6, as the address or the name's first address is. Raises gaierror."""
    try:
        return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    except ValueError:
        return socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][0]
