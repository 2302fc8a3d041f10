"""What is played: a stack, its users, and what befalls them. A scenario's repr is Python that makes it again."""

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from shared.protocol.limits import GRACE_S
from shared.protocol.messages import TokenLogprobs
from shared.protocol.session import SessionLog
from shared.speculative.params import SamplingParams
from simulator.faults import Fault
from simulator.process import RESTART_S
from simulator.stack import STREAM_LIMIT

# A gateway cut off or suspended for longer may miss so many heartbeats that the scheduler ends its sessions.
SAFE_GATEWAY_CUT_S: Final = 2.5
NOTICED_S: Final = 2.0  # a broker that is back for so long has been noticed


@dataclass(frozen=True, slots=True)
class Death:
    """A process dies. at_s: after the first user could come. back_s: until it starts again; None = never."""

    process: str
    at_s: float = 0.25
    back_s: float | None = RESTART_S


@dataclass(frozen=True, slots=True)
class Stop:
    """A process ends in order, as on SIGTERM, and is started again."""

    process: str
    at_s: float = 0.25
    back_s: float = RESTART_S


@dataclass(frozen=True, slots=True)
class Pause:
    """A process is suspended: it stands still while the world goes on. Needs an order."""

    process: str
    at_s: float = 0.25
    for_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Full:
    """The broker's memory is full."""

    at_s: float = 0.25
    for_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Cut:
    """The broker cannot be reached for some time: by one process, or by all ("").

    wiped: it comes back without its data; for all only.
    """

    at_s: float = 0.25
    for_s: float = 1.0
    process: str = ""
    wiped: bool = False


@dataclass(frozen=True, slots=True)
class Switch:
    """The policy and its draft length change."""

    at_s: float
    policy: str
    k: int


@dataclass(frozen=True, slots=True)
class Clock:
    """A process's clock: see simulator/process_clock.py."""

    process: str
    offset_s: float
    rate: float = 1.0


@dataclass(frozen=True, slots=True, repr=False)
class Scenario:
    """A stack, its users, and what befalls them."""

    policy: str = "fixed-k"
    k: int = 4
    users: int = 2
    tokens: int = 16
    prompt: int = 24
    schedulers: int = 1
    gateways: int = 1
    verifiers: int = 1
    devices: int = 2
    sharing: bool = True
    alpha: float = 0.7
    stop_every: int = 0
    kv_tokens: int = 4096
    draft_sessions: int = 8  # capacity of each device
    draft_ms: float = 8.0
    max_rows: int = 64
    prefill_tokens: int = 512
    logprobs: bool = False
    stream_limit: int = STREAM_LIMIT
    trace: bool = False
    spread_s: float = 0.05  # users arrive within this time
    wishes: float = 0.0  # share of users who ask for one device
    leavers: float = 0.0  # share of users who leave before their text has ended
    latency_s: float = 0.0005  # mean of one way to the broker
    device_delay_s: float = 0.0  # further one way, of devices
    loss: float = 0.0  # share of messages that are resent after TCP's time-out
    duplicates: float = 0.0  # share of added messages that arrive twice
    seed: int = 1
    window: str = ""  # the controller that sets draft lengths; "" = the policy does
    order: int | None = None  # seed of the order of events at one instant; None = asyncio's order
    faults: tuple[Fault, ...] = ()
    deaths: tuple[Death, ...] = ()
    stops: tuple[Stop, ...] = ()
    cuts: tuple[Cut, ...] = ()
    pauses: tuple[Pause, ...] = ()
    fulls: tuple[Full, ...] = ()
    switches: tuple[Switch, ...] = ()
    clocks: tuple[Clock, ...] = ()

    @property
    def gone(self) -> frozenset[str]:
        """Processes that die for good."""
        return frozenset(death.process for death in self.deaths if death.back_s is None)

    def loses_a_verifier(self, times: int) -> bool:
        """Whether one verifier's process ends so many times, so that a row may be taken for one that kills it."""
        ends = Counter(fault.process for fault in self.faults if fault.kind.startswith("die"))
        ends.update(death.process for death in self.deaths)
        ends.update(stop.process for stop in self.stops)
        return any(count >= times for name, count in ends.items() if name.startswith("verifier"))

    def breaks(self, gateway: str) -> bool:
        """Whether streams of a gateway may end with an error.

        They may when it cannot reach the broker for longer than the grace, when it is suspended, or when the broker
        loses its data. Absences between which the gateway may not have noticed that the broker was there count as one.
        """
        start = end = own_s = 0.0
        of_all: list[Cut | Pause] = [*self.cuts, *self.pauses]
        cuts = [cut for cut in of_all if cut.process in ("", gateway)]
        for cut in sorted(cuts, key=lambda cut: cut.at_s):
            if cut.at_s > end + NOTICED_S:
                start, own_s = cut.at_s, 0.0
            end = max(end, cut.at_s + cut.for_s)
            own_s += cut.for_s if cut.process else 0.0
            if end - start > GRACE_S or (own_s and end - start > SAFE_GATEWAY_CUT_S):
                return True
        return self.wiped

    @property
    def wiped(self) -> bool:
        """Whether the broker loses its data."""
        return any(cut.wiped for cut in self.cuts)

    def with_(self, **changes: Any) -> "Scenario":
        """A copy with other values of some fields."""
        return replace(self, **changes)

    def names(self) -> list[str]:
        """Names of all processes."""
        return [
            *names("scheduler", self.schedulers),
            *names("gateway", self.gateways),
            *(f"verifier-{n}" for n in range(self.verifiers)),
            *(f"device-{n}" for n in range(self.devices)),
        ]

    def __repr__(self) -> str:
        """Python that makes it again: the fields that differ from the defaults."""
        given = ((f.name, getattr(self, f.name)) for f in fields(self))
        plain = {f.name: f.default for f in fields(self)}
        return f"Scenario({', '.join(f'{name}={value!r}' for name, value in given if value != plain[name])})"


@dataclass(slots=True)
class User:
    """What one user asked and got."""

    number: int
    prompt: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int
    expected: tuple[int, ...]
    later: bool = False  # comes after all faults
    device: str = ""
    leaves_after: int | None = None  # tokens
    gateway: str = ""
    session: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    drafted: int = 0
    end: str = ""  # finish, or the reason of a failure
    ended_at: float = 0.0
    gateway_ended: bool = False  # died, or was stopped
    log: SessionLog | None = None  # at the end; None = it is gone


def names(kind: str, count: int) -> list[str]:
    """A single one has the bare name; several are numbered."""
    return [kind] if count == 1 else [f"{kind}-{n}" for n in range(count)]
