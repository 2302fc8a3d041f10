"""The devices of radio cells: their shares, what they have carried, and sessions that wait to be opened on them."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.fleet import address, name_of
from services.scheduler.metrics import Metrics
from shared.cells.token_bucket import TokenBucket
from shared.protocol.messages import Heartbeat

MAX_ETA: Final = 1e3  # a device that claims more, nothing or no number counts as the slowest of its cell
SLOWEST_ETA: Final = 0.01  # where no other is known
REVIEW_S: Final = 0.5  # between two looks at the shares
SOON_S: Final = 0.1  # the same, after a change
LULL_S: Final = 0.02
WINDOW_S: Final = 5.0
TOLERANCE: Final = 1.2  # times its share, in a window, before a device counts as one that does not keep it


@dataclass(slots=True)
class Member:
    """A device of a cell. eta: its rate for each unit of the band. payload_bits: of its drafts, a token.

    share_bits_s: what it was given last, 0 = nothing yet. bucket: what the core believes to be on its way to or from
    it. waiting: sessions to be opened on it once that is carried.
    """

    cell: str
    eta: float
    payload_bits: int
    share_bits_s: int = 0
    bucket: TokenBucket = field(default_factory=TokenBucket)
    waiting: deque[str] = field(default_factory=deque)
    exceeded: int = 0  # windows in which it did not keep its share
    _since: float = 0.0  # of the window
    _at: float = 0.0
    _came_bits: float = 0.0
    _allowed_bits: float = 0.0
    _largest_bits: float = 0.0

    def give(self, bits_s: int, now: float) -> None:
        """Give it this share from now on."""
        self._allow(now)
        if not self.share_bits_s:
            self._since = now
        self.share_bits_s = bits_s
        self.bucket.set_rate(bits_s, now)

    def came(self, bits: float, now: float) -> None:
        """Count what came from it."""
        self.bucket.take(bits, now)
        self._came_bits += bits
        self._largest_bits = max(self._largest_bits, bits)

    def exceeds(self, now: float) -> bool:
        """Whether a window is over in which it sent more than TOLERANCE times its share, and one message.

        Then the next window begins.
        """
        self._allow(now)
        if not self.share_bits_s or now < self._since + WINDOW_S:
            return False
        too_much = self._came_bits > TOLERANCE * self._allowed_bits + self._largest_bits
        self._since, self._came_bits, self._allowed_bits, self._largest_bits = now, 0.0, 0.0, 0.0
        self.exceeded += too_much
        return too_much

    def _allow(self, now: float) -> None:
        self._allowed_bits += self.share_bits_s * (now - self._at)
        self._at = now


class CellMembers:
    """All devices in the cells of a deployment, by address.

    rule: how a band is shared, one of bandwidth_rules.RULES. waiting: devices with sessions that
    wait. shared: whether devices keep to shares.
    """

    def __init__(self, bands: Mapping[str, float], rule: str, metrics: Metrics) -> None:
        """bands: of each cell, in Hz or in bit/s."""
        self.bands, self.rule = bands, rule
        self.members: dict[str, Member] = {}
        self.waiting: dict[str, None] = {}
        self.shared = False
        self.review_at = 0.0  # when the shares are to be looked at next
        self._reviewed_at = -1e9
        self._metrics = metrics

    def update(self, devices: Iterable[Heartbeat], now: float) -> None:
        """Take the devices that are alive."""
        if not self.bands:
            return
        alive = {address(beat): beat for beat in devices if beat.cell in self.bands}
        for gone in self.members.keys() - alive.keys():
            del self.members[gone]
            self.waiting.pop(gone, None)
            self.changed(now)
            self._metrics.forget_device(name_of(gone))
        for device, beat in alive.items():
            eta = self._eta(beat)
            member = self.members.get(device)
            if member is None or member.cell != beat.cell:
                self.members[device] = Member(beat.cell, eta, beat.payload_bits)
                self.changed(now)
            else:
                member.eta, member.payload_bits = eta, beat.payload_bits

    def changed(self, now: float) -> None:
        """Sessions or devices came or went: look at the shares soon, but after those that come together with them."""
        self.review_at = min(self.review_at, max(now + LULL_S, self._reviewed_at + SOON_S))

    def reviewed(self, now: float) -> None:
        """The shares were looked at."""
        self._reviewed_at, self.review_at = now, now + REVIEW_S

    def use(self, rule: str) -> None:
        """Share the bands by this rule from now on."""
        self.rule, self.review_at = rule, min(self.review_at, self._reviewed_at)

    def release(self) -> list[str]:
        """Nobody keeps to a share any more. Returns who did."""
        released = [device for device, member in self.members.items() if member.share_bits_s]
        for device in released:
            old = self.members[device]
            self.members[device] = Member(old.cell, old.eta, old.payload_bits, waiting=old.waiting)
            self._metrics.forget_device(name_of(device))
        self.shared = False
        return released

    def report(self) -> dict[str, str]:
        """Each device's share in bit/s and how often it was exceeded, as two numbers in a text."""
        return {
            name_of(device): f"{member.share_bits_s} {member.exceeded}"
            for device, member in self.members.items()
        }

    def in_cell(self, cell: str) -> dict[str, Member]:
        """The members of a cell."""
        return {device: member for device, member in self.members.items() if member.cell == cell}

    def came(self, device: str, size: int, tokens: int, now: float) -> None:
        """Count a message of `size` bytes from a device, with so many drafted tokens."""
        if member := self.members.get(device):
            member.came(8.0 * size + member.payload_bits * tokens, now)

    def went(self, device: str, size: float, now: float) -> None:
        """Count a message of `size` bytes to a device."""
        if member := self.members.get(device):
            member.bucket.take(8.0 * size, now)

    def next_at(self) -> float | None:
        """When the next waiting session may be opened; None = none waits."""
        return min((self.members[device].bucket.paid_at for device in self.waiting), default=None)

    def _eta(self, beat: Heartbeat) -> float:
        """What a device says of its link; one that cannot be true is counted, and is the slowest seen instead."""
        if 0 < beat.eta <= MAX_ETA:
            return beat.eta
        self._metrics.absurd.labels("eta").inc()
        name = address(beat)
        others = [member.eta for device, member in self.in_cell(beat.cell).items() if device != name]
        return min(others, default=SLOWEST_ETA)
