"""What is played: a stack, its users, and what befalls them."""

from dataclasses import dataclass, field

from shared.protocol.limits import GRACE_S
from shared.speculative.params import SamplingParams
from simulator.faults import Fault


@dataclass(frozen=True, slots=True)
class Scenario:
    """A stack, its users, and what befalls them."""

    policy: str = "fixed-k"
    k: int = 4
    users: int = 2
    tokens: int = 16
    prompt: int = 24
    verifiers: int = 1
    devices: int = 2
    sharing: bool = True
    alpha: float = 0.7
    stop_every: int = 0
    kv_tokens: int = 4096
    spread_s: float = 0.05  # users arrive within this time
    latency_s: float = 0.0005  # mean of one way to the broker
    seed: int = 1
    faults: tuple[Fault, ...] = ()
    gone: tuple[str, ...] = ()  # processes that die in mid-generation and do not come back
    outage_s: float = 0.0  # the broker goes away in mid-generation, for so long
    wiped: bool = False  # and comes back without its data

    @property
    def breaks(self) -> bool:
        """Whether streams may end with an error: the broker is away for longer than the grace, or loses its data."""
        return self.wiped or self.outage_s > GRACE_S


@dataclass(slots=True)
class User:
    """What one user asked and got."""

    prompt: tuple[int, ...]
    sampling: SamplingParams
    expected: tuple[int, ...]
    session: str = ""
    tokens: list[int] = field(default_factory=list)
    end: str = ""  # finish, or the reason of a failure
    gateway_died: bool = False
