"""A radio cell whose members share its band: when does which transfer end?

A member with a width of B_d Hz transfers at eta_d·B_d bit/s (where a band is given in bit/s, eta is a factor). Between
two events - a transfer begins or ends, somebody joins or leaves, shares change - all rates are constant, so the next
end is known exactly. What is left of a transfer goes on at the new rate.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Final, Literal, NamedTuple

from shared.cells.sharing import SHARINGS, Sharing, check_shares, equal_widths, given_widths

Direction = Literal["up", "down"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("up", "down")
MAX_MEMBERS: Final = 4096
MAX_WAITING: Final = 4096  # transfers of one direction; more of them end together with the last
TOGETHER: Final = 1e-12  # transfers that end within this share of a step end with it: rounding


class Arrival(NamedTuple):
    """A transfer that has ended, and when."""

    member: str
    direction: Direction
    at: float


@dataclass(slots=True)
class Usage:
    """What a member has had. hz_s: width times the seconds in which it transferred, both directions."""

    up_bits: float = 0.0
    down_bits: float = 0.0
    hz_s: float = 0.0


@dataclass(slots=True)
class _Transfer:
    """Bits that are left of it. count: of the transfers that end with it."""

    left: float
    count: int = 1


@dataclass(slots=True)
class _Member:
    eta: float
    usage: Usage
    queues: dict[Direction, deque[_Transfer]] = field(
        default_factory=lambda: {direction: deque() for direction in DIRECTIONS}
    )

    def active(self, directions: tuple[Direction, ...]) -> list[Direction]:
        """In which of these directions it transfers."""
        return [direction for direction in directions if self.queues[direction]]


class _Flow(NamedTuple):
    """A direction in which a member transfers now. width_hz: what it has of the band; bits_s: its rate."""

    name: str
    member: _Member
    direction: Direction
    width_hz: float
    bits_s: float


class Cell:
    """A cell. Every call is told the time in seconds, which never goes back.

    Each member's transfers keep their order in each direction. `sharing`: `equal`, a member has B/n at all times;
    `shares`, what `give` says, see sharing.given_widths; `contention`, those who transfer at the moment have equal
    parts of the time (processor sharing). A member that transfers both directions divides its width between them. With
    `duplex` either direction has a band of its own. bands: the directions that each of them serves.
    """

    def __init__(self, band_hz: float, sharing: Sharing, duplex: bool = False) -> None:
        """band_hz: in Hz, or in bit/s if etas are factors. Raises ValueError."""
        if not 0 < band_hz < inf:
            raise ValueError(f"bandwidth {band_hz}: give more than 0")
        if sharing not in SHARINGS:
            raise ValueError(f"sharing {sharing!r}: give {', '.join(SHARINGS)}")
        self.band_hz, self.sharing = band_hz, sharing
        self.bands: tuple[tuple[Direction, ...], ...] = (("up",), ("down",)) if duplex else (DIRECTIONS,)
        self._members: dict[str, _Member] = {}
        self._usage: dict[str, Usage] = {}  # of those who have left as well
        self._given_hz: dict[str, float] = {}
        self._widths: dict[str, float] = {}  # of members, where they do not depend on who transfers
        self._flows: list[_Flow] | None = None  # None: not up to date
        self._arrived: list[Arrival] = []
        self._at = 0.0

    def __contains__(self, name: str) -> bool:
        return name in self._members

    # --- members and their shares -------------------------------------------------------------------
    def join(self, name: str, eta: float, now: float) -> None:
        """Add a member; one of that name leaves first. eta: bit/s/Hz, or a factor. Raises ValueError."""
        if not 0 < eta < inf:
            raise ValueError(f"eta of {name}: {eta}; give more than 0")
        self.leave(name, now)
        if len(self._members) >= MAX_MEMBERS:
            raise ValueError(f"{name}: a cell takes at most {MAX_MEMBERS} devices")
        if name not in self._usage and len(self._usage) >= 2 * MAX_MEMBERS:
            del self._usage[next(old for old in self._usage if old not in self._members)]
        self._members[name] = _Member(eta, self._usage.setdefault(name, Usage()))
        self._divide()

    def leave(self, name: str, now: float) -> None:
        """Remove a member, with its transfers. Its given share is kept for its return."""
        self._advance(now)
        if self._members.pop(name, None):
            self._divide()

    def give(self, shares_hz: Mapping[str, float], now: float) -> None:
        """Give members these widths from now on, in place of all earlier ones. Raises ValueError."""
        if self.sharing != "shares":
            raise ValueError(f"sharing {self.sharing}: only a cell with sharing shares can be given some")
        check_shares(self.band_hz, shares_hz)
        self._advance(now)
        self._given_hz = dict(shares_hz)
        self._divide()

    def keep(self, name: str, width_hz: float, now: float) -> None:
        """Give a member this width from now on, and leave the others theirs. Raises ValueError.

        Shares change member by member, so that for moments they may be more than the band together: then all have as
        much less, see sharing.given_widths.
        """
        if self.sharing != "shares":
            raise ValueError(f"sharing {self.sharing}: only a cell with sharing shares can be given some")
        check_shares(self.band_hz, {name: min(width_hz, self.band_hz)})
        self._advance(now)
        self._given_hz[name] = min(width_hz, self.band_hz)
        self._divide()

    def widths(self) -> Mapping[str, float]:
        """What each member may have, in Hz. Under contention: what those have who transfer now."""
        if self.sharing != "contention":
            return dict(self._widths)
        now: dict[str, float] = {}
        for flow in self._current_flows():
            now[flow.name] = now.get(flow.name, 0.0) + flow.width_hz
        return now

    # --- transfers ----------------------------------------------------------------------------------
    def send(self, name: str, direction: Direction, bits: float, now: float) -> None:
        """Begin a member's transfer, behind its earlier ones of that direction. Raises ValueError, KeyError."""
        if not (bits >= 0 and isfinite(bits)):
            raise ValueError(f"a transfer of {bits} bits")
        self._advance(now)
        queue = self._members[name].queues[direction]
        if len(queue) < MAX_WAITING:
            queue.append(_Transfer(bits))
        else:
            queue[-1].left += bits
            queue[-1].count += 1
        if len(queue) == 1:
            self._flows = None

    def drop(self, name: str, direction: Direction, now: float) -> None:
        """Drop a member's transfers of a direction."""
        self._advance(now)
        if name in self._members:
            self._members[name].queues[direction].clear()
            self._flows = None

    def take(self, now: float) -> list[Arrival]:
        """Take the transfers that have ended by now, in the order of their ends."""
        self._advance(now)
        arrived, self._arrived = self._arrived, []
        return arrived

    def next_at(self) -> float:
        """When the next transfer will end if nothing else happens; inf without transfers."""
        return self._at if self._arrived else self._at + self._step()

    def rates(self) -> Mapping[tuple[str, Direction], float]:
        """Bits a second of what is transferred now."""
        return {(flow.name, flow.direction): flow.bits_s for flow in self._current_flows()}

    def usage(self, now: float) -> Mapping[str, Usage]:
        """What every member has had so far; the last `MAX_MEMBERS` of those who have left as well."""
        self._advance(now)
        return self._usage

    # --- time ---------------------------------------------------------------------------------------
    def _advance(self, now: float) -> None:
        """From event to event, up to `now`."""
        while self._at + (step := self._step()) <= now:
            self._carry(step)
            self._end(step)
            self._at += step
        if now > self._at:
            self._carry(now - self._at)
            self._at = now

    def _step(self) -> float:
        """Seconds to the next end of a transfer."""
        return min((_left_s(flow) for flow in self._current_flows()), default=inf)

    def _end(self, step: float) -> None:
        """End the transfers of which nothing is left after a step."""
        for name, member, direction, _, bits_s in self._current_flows():
            transfer = member.queues[direction][0]
            if transfer.left <= TOGETHER * step * bits_s:
                member.queues[direction].popleft()
                self._arrived += [Arrival(name, direction, self._at + step)] * transfer.count
                if not member.queues[direction]:
                    self._flows = None

    def _carry(self, seconds: float) -> None:
        """Let all rates work for so long, in which no transfer ends but at the end."""
        for _, member, direction, width_hz, bits_s in self._current_flows():
            head = member.queues[direction][0]
            bits = min(head.left, bits_s * seconds)
            head.left -= bits
            member.usage.hz_s += width_hz * seconds
            if direction == "up":
                member.usage.up_bits += bits
            else:
                member.usage.down_bits += bits

    # --- rates --------------------------------------------------------------------------------------
    def _divide(self) -> None:
        """Work the members' widths out anew."""
        self._flows = None
        if self.sharing == "equal":
            self._widths = equal_widths(self.band_hz, self._members)
        elif self.sharing == "shares":
            etas = {name: member.eta for name, member in self._members.items()}
            self._widths = given_widths(self.band_hz, etas, self._given_hz)

    def _current_flows(self) -> list[_Flow]:
        if self._flows is None:
            self._flows = [flow for band in self.bands for flow in self._flows_of(band)]
        return self._flows

    def _flows_of(self, band: tuple[Direction, ...]) -> Iterator[_Flow]:
        """The flows that share a band."""
        active = {
            name: directions for name, member in self._members.items() if (directions := member.active(band))
        }
        widths = self._widths if self.sharing != "contention" else equal_widths(self.band_hz, active)
        for name, directions in active.items():
            member, width_hz = self._members[name], widths[name] / len(directions)
            for direction in directions:
                yield _Flow(name, member, direction, width_hz, member.eta * width_hz)


def _left_s(flow: _Flow) -> float:
    """Seconds until the flow's first transfer ends."""
    return flow.member.queues[flow.direction][0].left / flow.bits_s
