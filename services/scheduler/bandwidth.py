"""Shares the bands of radio cells among their devices while they serve, and paces what the core sends to them."""

from collections.abc import Mapping
from math import ceil
from typing import Final

from services.scheduler.cell_members import Member
from services.scheduler.effects import ReportShares, SendToDevice
from services.scheduler.fleet import name_of
from services.scheduler.session import ScheduledSession
from services.scheduler.state import State
from shared.planning.bandwidth_rules import BANDWIDTHS, BY_POLICY, NO_SHARES, Bandwidth
from shared.planning.live_shares import Demand, shares_hz
from shared.planning.policies import REGISTRY
from shared.protocol.limits import MAX_RATE_BITS_S
from shared.protocol.messages import Open, Share
from shared.protocol.sizes import draft_bytes, open_bytes, verdict_bytes

CHANGED: Final = 0.05  # of a share, from which on a device is sent its new one
SETTLED: Final = 0.01  # if one is sent, so are all that changed by so much: together they are one band
FIRST_LENGTH: Final = 4  # of drafts, while nothing else is known


def rule_of(state: State) -> Bandwidth | None:
    """How bands are shared now; None = not at all."""
    name, entry = state.cells.rule, REGISTRY.get(state.policy.name)
    if name == BY_POLICY:
        name = entry.bandwidth if entry else NO_SHARES
    return next((rule for rule in BANDWIDTHS if rule == name), None)


def open_on_device(state: State, session: ScheduledSession, now: float) -> None:
    """Open a session on its device, at once or, in a cell, when what was sent before is carried."""
    member = state.cells.members.get(session.device)
    state.cells.changed(now)
    if member is None or (not member.waiting and member.bucket.free_at(now) <= now):
        _open(state, session, now)
        return
    session.opening = True
    session.caught_up = False  # it runs without drafts until the device is ready
    if session.id not in member.waiting:
        member.waiting.append(session.id)
        state.cells.waiting[session.device] = None


def turn(state: State, now: float) -> None:
    """Open what may be opened now, and share the bands anew where it is time."""
    cells = state.cells
    if not cells.members:
        return
    for device in list(cells.waiting):
        _open_waiting(state, device, now)
    rule = rule_of(state)
    if rule is None:
        for device in cells.release() if cells.shared else []:
            state.do(SendToDevice(device, Share(MAX_RATE_BITS_S)))
    elif now >= cells.review_at:
        cells.reviewed(now)
        cells.shared = True
        shared = [_share(state, rule, hz, cells.in_cell(cell), now) for cell, hz in cells.bands.items()]
        if any(shared):
            state.do(ReportShares(cells.report()))


def next_at(state: State) -> float | None:
    """The latest time of the next `turn`; None = no deadline."""
    cells = state.cells
    times = cells.next_at(), cells.review_at if cells.members and rule_of(state) else None
    return min((at for at in times if at is not None), default=None)


def _open_waiting(state: State, device: str, now: float) -> None:
    """Open the sessions on a device that need wait no more."""
    member = state.cells.members[device]
    while member.waiting and member.bucket.free_at(now) <= now:
        session = state.sessions.get(member.waiting.popleft())
        if session is not None and session.opening and session.device == device:
            _open(state, session, now)
    if not member.waiting:
        del state.cells.waiting[device]


def _open(state: State, session: ScheduledSession, now: float) -> None:
    session.opening = False
    state.cells.went(session.device, open_bytes(session.length), now)
    message = Open(session.id, session.epoch, session.length, state.policy.trees)
    state.do(SendToDevice(session.device, message))


def _share(state: State, rule: Bandwidth, band_hz: float, members: Mapping[str, Member], now: float) -> bool:
    """Give the members of a cell their shares, if they differ enough from what they have.

    Returns whether there is something new to report.
    """
    shares = shares_hz(rule, band_hz, _demands(state, members, now))
    given = {device: _rate(width_hz * members[device].eta) for device, width_hz in shares.items()}
    changed = {
        device: abs(bits_s / (members[device].share_bits_s or 1e-9) - 1) for device, bits_s in given.items()
    }
    news = sends = max(changed.values(), default=0.0) > CHANGED
    for device, member in members.items():
        if sends and changed[device] > SETTLED:
            member.give(given[device], now)
            state.metrics.shares.labels(name_of(device)).set(given[device])
            state.do(SendToDevice(device, Share(given[device])))
        if member.exceeds(now):
            state.metrics.exceeded.labels(name_of(device)).inc()
            news = True
    return news


def _rate(bits_s: float) -> int:
    """A share in whole bit/s, within what a message can say."""
    return min(max(round(bits_s), 1), MAX_RATE_BITS_S)


# --- what is still to be carried ------------------------------------------------------------------------
def _demands(state: State, members: Mapping[str, Member], now: float) -> dict[str, Demand]:
    """What each member and its sessions have before them."""
    bits = {device: member.bucket.owed_bits(now) for device, member in members.items()}
    rest_s, sessions = dict.fromkeys(members, 0.0), dict.fromkeys(members, 0)
    for session in state.sessions.values():
        device = session.device
        if device in members:
            rounds, round_bits, round_s = _rounds(state, session, members[device].payload_bits)
            bits[device] += rounds * round_bits + 8 * open_bytes(session.length) * session.opening
            rest_s[device] = max(rest_s[device], rounds * round_s)
            sessions[device] += 1
    return {
        device: Demand(member.eta, bits[device], rest_s[device], max(1.0, sessions[device]))
        for device, member in members.items()
    }


def _rounds(state: State, session: ScheduledSession, payload_bits: int) -> tuple[int, float, float]:
    """Rounds that a session still takes, the bits of each, and its seconds beside carrying them."""
    k, device = _length(state, session), state.estimates.device(session.device)
    tokens = session.acceptance.tokens(k)
    drafted_bits = 8 * draft_bytes(k) + payload_bits * k if k else 0
    round_bits = drafted_bits + 8 * verdict_bytes(tokens)
    round_s = k * device.draft_s.value + device.fixed_s + state.pass_s(session.verifier, k)
    return ceil(session.remaining / tokens), round_bits, round_s


def _length(state: State, session: ScheduledSession) -> int:
    """The draft length to reckon with."""
    verifier = state.verifiers.get(session.verifier)
    if verifier is not None and verifier.plan is not None:
        return verifier.plan.length(session.id)
    if session.drafts and session.allowed_k:
        return session.allowed_k
    return state.policy.k or FIRST_LENGTH
