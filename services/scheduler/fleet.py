"""Live processes by heartbeat, and the choice of a device and a verifier for a session."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from shared.protocol.messages import Heartbeat

UNKNOWN_DRAFT_US: Final = 10_000  # µs a token of a device that has not measured itself yet


def address(heartbeat: Heartbeat) -> str:
    """Address of the process that sent a heartbeat: "name:generation"."""
    return f"{heartbeat.name}:{heartbeat.generation}"


@lru_cache(maxsize=1 << 16)  # asked for several times in each round
def name_of(address: str) -> str:
    """The name part of an address."""
    return address.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class LiveProcesses:
    """Heartbeats that have not expired, by process name."""

    devices: Mapping[str, Heartbeat] = field(default_factory=dict)
    verifiers: Mapping[str, Heartbeat] = field(default_factory=dict)
    gateways: Mapping[str, Heartbeat] = field(default_factory=dict)
    device_addresses: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "device_addresses", frozenset(map(address, self.devices.values())))

    @classmethod
    def of(
        cls, devices: Iterable[Heartbeat], verifiers: Iterable[Heartbeat], gateways: Iterable[Heartbeat]
    ) -> "LiveProcesses":
        """A fleet from the broker's lists of live processes."""
        by_name = ({beat.name: beat for beat in beats} for beats in (devices, verifiers, gateways))
        return cls(*by_name)

    def has_device(self, device: str) -> bool:
        """Whether the device incarnation with this address is alive."""
        return device in self.device_addresses


def choose_device(
    fleet: LiveProcesses, only: str, load: Callable[[str], int], refused: Collection[str]
) -> str:
    """Address of the device with the most spare speed; "" when none has room.

    only: name of the only device that may see this session's prompt; "" = any. load: sessions of a device, by its
    address. refused: addresses that take no session now.
    """
    beats: Iterable[Heartbeat] = fleet.devices.values()
    if only:
        beats = [fleet.devices[only]] if only in fleet.devices else []
    room = {
        address(beat): beat
        for beat in beats
        if load(address(beat)) < beat.capacity and address(beat) not in refused
    }
    return max(room, key=lambda device: _spare(room[device], load(device)), default="")


def _spare(beat: Heartbeat, load: int) -> tuple[float, int]:
    """Sort key: tokens per second for one more session, then free places."""
    speed = 1e6 / (beat.draft_us_per_token or UNKNOWN_DRAFT_US)
    return speed / (load + 1), beat.capacity - load


def choose_verifier(live: Mapping[str, int]) -> str:
    """The live verifier with the fewest sessions (name → sessions); "" when none is live."""
    return min(live, key=lambda name: (live[name], name), default="")
