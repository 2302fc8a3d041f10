"""Everything the core knows, and the few ways in which a session changes."""

from dataclasses import dataclass, field
from typing import Final

from services.scheduler.effects import AckDraft, Effect
from services.scheduler.fleet import Fleet, name_of
from services.scheduler.loads import DeviceLoads
from services.scheduler.metrics import Metrics
from services.scheduler.session import HeldDraft, ScheduledSession
from services.scheduler.timers import Timers
from services.scheduler.verifiers import Costs, Verifier
from shared.planning.cost import Packed
from shared.planning.estimates import KNOWN_DEVICE, UNKNOWN_HOP_MS, Acceptance, DeviceEstimate, Mean
from shared.planning.policy import Policy
from shared.planning.views import Phase
from shared.protocol import limits

FIRST_PENALTY_S: Final = 0.5
MAX_PENALTY_S: Final = 30.0
MIN_DRAFT_WAIT_S: Final = 0.5
DEVICE_RETRY_S: Final = 5.0  # before a session that a device refused is offered to devices again
MAX_MISSES: Final = 5  # the wait for a verdict doubles this often


@dataclass(frozen=True, slots=True)
class Config:
    """What the core is told once."""

    name: str
    term: int  # of the lease
    max_rows: int
    prefill_tokens: int
    move_timeout_s: float
    k: int  # of a Control that names none
    batches: int  # N of cyclic-k
    trace: bool = False


@dataclass(slots=True)
class Estimates:
    """What was learnt about devices and verifiers, by name: it outlives leases, restarts of theirs and sessions."""

    prior: Packed | None = None  # of the verifiers' passes; None = not measured
    hop_ms: float = UNKNOWN_HOP_MS  # likewise, of what a pass takes besides
    devices: dict[str, DeviceEstimate] = field(default_factory=dict)
    verifiers: dict[str, Costs] = field(default_factory=dict)
    alpha: Mean = field(default_factory=lambda: Mean(0.7, weight=0.02))

    def device(self, address: str) -> DeviceEstimate:
        """Of the device at this address."""
        name = name_of(address)
        if name not in self.devices:
            self.devices[name] = DeviceEstimate()
        return self.devices[name]

    def accepted(self, address: str, alpha: float) -> None:
        """A session of this device has come to this α; its next one begins there."""
        device = self.device(address)
        device.alpha = device.alpha or Mean(alpha, weight=0.05)
        device.alpha.observe(alpha)
        self.alpha.observe(alpha)

    def acceptance(self, address: str) -> Acceptance:
        """Of a session on this device that has not drafted yet."""
        known = self.device(address).alpha
        return Acceptance(known.value, KNOWN_DEVICE) if known else Acceptance(self.alpha.value)

    def verifier(self, name: str) -> Costs:
        """Of this verifier."""
        if name not in self.verifiers:
            self.verifiers[name] = Costs.starting(self.prior, self.hop_ms)
        return self.verifiers[name]


class State:
    """Sessions, verifiers, who is alive, timers, and the effects of the turn under way."""

    def __init__(self, config: Config, policy: Policy, estimates: Estimates, metrics: Metrics) -> None:
        self.config = config
        self.policy = policy
        self.estimates = estimates
        self.metrics = metrics
        self.sessions: dict[str, ScheduledSession] = {}
        self.unplaced: dict[str, None] = {}  # no verifier was alive
        self.deviceless: dict[str, None] = {}  # no device had room
        self.verifiers: dict[str, Verifier] = {}
        self.fleet = Fleet()
        self.loads = DeviceLoads()
        self.draining: set[str] = set()  # devices (addresses) that said they drain
        self.threads: tuple[int, int] = (0, 0)  # of verifiers and devices, 0 = theirs
        self.timers = Timers()
        self.holding: set[str] = set()  # entries of the draft stream
        self.dirty: set[str] = set()  # verifiers to look at before the turn ends
        self.batch = (config.term & 0xFFFFF) << 24  # not seen in the last terms; fits a Counter
        self.joined = 0
        self._effects: list[Effect] = []

    # --- effects ----------------------------------------------------------------------------------------
    def do(self, effect: Effect) -> None:
        """Have the shell do this at the end of the turn."""
        self._effects.append(effect)

    def take_effects(self) -> list[Effect]:
        """What was asked for since the last call."""
        effects, self._effects = self._effects, []
        return effects

    # --- sessions ---------------------------------------------------------------------------------------
    def add(self, session: ScheduledSession, now: float) -> None:
        """Take a session in; it is in phase prefill and has no place yet."""
        session.joined = self.joined
        self.joined += 1
        self.sessions[session.id] = session
        self.metrics.phases[session.phase] += 1
        self.set_timer(session, session.deadline_at)
        session.since = now

    def enter(
        self, session: ScheduledSession, phase: Phase, now: float, timer_at: float | None = None
    ) -> None:
        """The session is in another phase from now on; timer_at: when its move is overdue."""
        self.metrics.phases[session.phase] -= 1
        self.metrics.phases[phase] += 1
        if session.phase in ("verifying", "prefilling") and session.verifier in self.verifiers:
            self.verifiers[session.verifier].in_flight.discard(session.batch, session.id)
        session.phase, session.since = phase, now
        self.set_timer(session, session.deadline_at if timer_at is None else timer_at)
        self.update_view(session, now)

    def update_view(self, session: ScheduledSession, now: float) -> None:
        """Let policies see the session as it is now."""
        verifier = self.verifiers.get(session.verifier)
        if verifier is not None:
            view = session.view(self.can_draft(session, now), self.estimates.device(session.device))
            verifier.cohort.put(view)
            self.dirty.add(verifier.name)

    def set_timer(self, session: ScheduledSession, at: float) -> None:
        """Look at the session again at this time, or at its deadline if that is earlier."""
        session.timer_at = min(at, session.deadline_at)
        self.timers.set(session.id, session.timer_at)

    def remove(self, session: ScheduledSession, finish: str) -> None:
        """The session has ended."""
        self.metrics.ends.labels(finish).inc()
        if session.verifier in self.verifiers:
            self.verifiers[session.verifier].throughput.ended(session.prompt_len)
        self._forget(session)

    def _forget(self, session: ScheduledSession) -> None:
        self.drop_draft(session)
        self.metrics.phases[session.phase] -= 1
        del self.sessions[session.id]
        self.unplaced.pop(session.id, None)
        self.timers.drop(session.id)
        self.release_device(session)
        self.release_verifier(session)

    def release_device(self, session: ScheduledSession) -> None:
        """It has no device any more."""
        if session.device:
            self.loads.remove(session.device)
        session.device = ""
        self.deviceless.pop(session.id, None)

    def release_verifier(self, session: ScheduledSession) -> None:
        """It has no verifier any more."""
        verifier = self.verifiers.get(session.verifier)
        if verifier is not None:
            verifier.in_flight.discard(session.batch, session.id)
            verifier.cohort.drop(session.id)
            self.dirty.add(verifier.name)
        session.verifier = ""

    def hold_draft(self, session: ScheduledSession, held: HeldDraft) -> None:
        """Keep a draft until its batch closes; its entry stays unacknowledged."""
        session.held = held
        self.holding.add(held.entry)

    def drop_draft(self, session: ScheduledSession) -> None:
        """A held draft is of no use any more."""
        if session.held is not None:
            self.holding.discard(session.held.entry)
            self.do(AckDraft(session.held.entry))
            session.held = None

    # --- queries ----------------------------------------------------------------------------------------
    def can_draft(self, session: ScheduledSession, now: float) -> bool:
        """Whether its device is alive, has caught up, and is not on probation."""
        return session.caught_up and now >= session.draft_after and self.fleet.has_device(session.device)

    def next_length(self, session: ScheduledSession, now: float) -> int:
        """k for the round after the row that is being staged, which commits at least one token itself."""
        if not self.can_draft(session, now):
            return 0
        view = session.view(True, self.estimates.device(session.device))
        verifier = self.verifiers.get(session.verifier)
        k = self.policy.next_length(view, verifier.plan if verifier else None, now)
        return max(0, min(k, session.remaining - 2, limits.MAX_DRAFT))

    def verdict_wait_s(self, session: ScheduledSession) -> float:
        """How long its verdict may take: longer for a busy verifier, twice as long after each miss."""
        verifier = self.verifiers[session.verifier]
        wait_s = max(self.config.move_timeout_s, 4 * verifier.in_flight.expected_s())
        return float(wait_s * 2 ** min(session.misses, MAX_MISSES))

    def draft_wait_s(self, session: ScheduledSession) -> float:
        """How long its draft may take; the first from a device that may still prefill, the longest."""
        most = self.config.move_timeout_s
        if session.drafts == 0:
            return most
        usual_s = self.estimates.device(session.device).turnaround_s(session.allowed_k)
        return min(most, max(MIN_DRAFT_WAIT_S, 4 * usual_s))
