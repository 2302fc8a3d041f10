"""The scheduler's state: sessions, verifiers, devices, timers and pending effects, and how a session changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from services.scheduler.cell_members import CellMembers
from services.scheduler.effects import AckDraft, Effect
from services.scheduler.fleet import LiveProcesses, name_of
from services.scheduler.loads import DeviceLoads
from services.scheduler.metrics import Metrics
from services.scheduler.session import HeldDraft, ScheduledSession
from services.scheduler.timers import Timers
from services.scheduler.verifiers import PassCosts, VerifierState
from shared.planning.bandwidth_rules import BY_POLICY
from shared.planning.cost import Packed, Shape
from shared.planning.estimates import (
    DEFAULT_HOP_MS,
    DEVICE_PRIOR_OBSERVATIONS,
    Acceptance,
    DeviceEstimate,
    Mean,
)
from shared.planning.link_rates import LinkRates
from shared.planning.policy import Policy
from shared.planning.siblings import siblings_worth
from shared.planning.views import Phase, SessionView
from shared.planning.windows.window import Decision, Load, Window
from shared.protocol import limits
from shared.protocol.messages import Grown, TreeSource

FIRST_PENALTY_S: Final = 0.5
MAX_PENALTY_S: Final = 30.0
MIN_DRAFT_WAIT_S: Final = 0.5
DEVICE_RETRY_S: Final = 5.0  # a session that a device refused waits this long for another device
MAX_MISSES: Final = 5  # the wait for a verdict doubles at most this many times


@dataclass(frozen=True, slots=True)
class Config:
    """Constants of one term."""

    name: str
    term: int  # of the lease
    max_rows: int
    prefill_tokens: int
    move_timeout_s: float
    k: int  # draft length of a Control that gives none
    batches: int  # N of cyclic-k
    trace: bool = False
    bands: Mapping[str, float] = field(default_factory=dict)  # of radio cells, in Hz or in bit/s
    bandwidth: str = BY_POLICY  # how they are shared


@dataclass(slots=True)
class Estimates:
    """Learnt speeds and acceptance rates by device and verifier name. They outlive terms, restarts and sessions."""

    prior: Packed | None = None  # cost law of a verifier's pass before any is observed; None = not measured
    hop_ms: float = DEFAULT_HOP_MS  # time from pass to pass beside computing, before any is observed
    devices: dict[str, DeviceEstimate] = field(default_factory=dict)
    verifiers: dict[str, PassCosts] = field(default_factory=dict)
    alpha: Mean = field(default_factory=lambda: Mean(0.7, weight=0.02))
    rates: LinkRates = field(default_factory=LinkRates)

    def device(self, address: str) -> DeviceEstimate:
        """Estimate of the device at this address."""
        name = name_of(address)
        if name not in self.devices:
            self.devices[name] = DeviceEstimate()
        return self.devices[name]

    def accepted(self, address: str, alpha: float) -> None:
        """Record a session's acceptance rate α on this device, as the prior of its next session."""
        device = self.device(address)
        device.alpha = device.alpha or Mean(alpha, weight=0.05)
        device.alpha.observe(alpha)
        self.alpha.observe(alpha)

    def acceptance(self, address: str) -> Acceptance:
        """Prior acceptance of a session on this device that has not drafted yet."""
        known = self.device(address).alpha
        return Acceptance(known.value, DEVICE_PRIOR_OBSERVATIONS) if known else Acceptance(self.alpha.value)

    def verifier(self, name: str) -> PassCosts:
        """Pass costs of this verifier."""
        if name not in self.verifiers:
            self.verifiers[name] = PassCosts.starting(self.prior, self.hop_ms)
        return self.verifiers[name]


class State:
    """All state of one term, and the effects of the current turn."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        estimates: Estimates,
        metrics: Metrics,
        window: Window | None = None,
    ) -> None:
        """window: sets draft lengths in place of the policy; None = the policy does."""
        self.config = config
        self.policy = policy
        self.window = window
        self.estimates = estimates
        self.metrics = metrics
        self.sessions: dict[str, ScheduledSession] = {}
        self.unplaced: dict[str, None] = {}  # sessions without a verifier: none was alive
        self.deviceless: dict[str, None] = {}  # sessions without a device: none had room
        self.verifiers: dict[str, VerifierState] = {}
        self.fleet = LiveProcesses()
        self.loads = DeviceLoads()
        self.cells = CellMembers(config.bands, config.bandwidth, metrics)
        self.draining: set[str] = set()  # addresses of devices that announced they stop
        self.threads: tuple[int, int] = (0, 0)  # for verifiers and devices; 0 = leave their own setting
        self.timers = Timers()  # of sessions
        self.closings = Timers()  # of verifiers: when their batches may close though nothing happens
        self.holding: set[str] = set()  # draft entries not acknowledged yet
        self.grown: dict[str, list[tuple[str, Grown]]] = {}  # by verifier: entries, and nodes to pass on
        self.dirty: set[str] = set()  # verifiers whose batches may close in this turn
        self.batch = (config.term & 0xFFFFF) << 24  # differs from recent terms' numbers; fits a Counter
        self.joined = 0
        self._came = 0  # verifiers so far
        self._effects: list[Effect] = []

    # --- effects ----------------------------------------------------------------------------------------
    def do(self, effect: Effect) -> None:
        """Queue an effect for the end of the turn."""
        self._effects.append(effect)

    def take_effects(self) -> list[Effect]:
        """Effects queued since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def take_dirty(self, now: float) -> list[VerifierState]:
        """Verifiers whose batches may close now, in the order in which they came."""
        names = self.dirty.union(self.closings.due(now))
        self.dirty.clear()
        found = [self.verifiers[name] for name in names if name in self.verifiers]
        return sorted(found, key=lambda verifier: verifier.number) if len(found) > 1 else found

    def add_verifier(self, verifier: VerifierState) -> None:
        """Add a verifier, the newest so far."""
        verifier.number = self._came
        self._came += 1
        self.verifiers[verifier.name] = verifier

    # --- sessions ---------------------------------------------------------------------------------------
    def add(self, session: ScheduledSession, now: float) -> None:
        """Add a new session in phase prefill, not placed yet."""
        session.joined = self.joined
        self.joined += 1
        self.sessions[session.id] = session
        self.metrics.phases[session.phase] += 1
        self.set_timer(session, session.deadline_at)
        session.since = now

    def enter(
        self, session: ScheduledSession, phase: Phase, now: float, timer_at: float | None = None
    ) -> None:
        """Move a session to another phase. timer_at: when its next message is overdue."""
        self.metrics.phases[session.phase] -= 1
        self.metrics.phases[phase] += 1
        if session.phase in ("verifying", "prefilling") and session.verifier in self.verifiers:
            self.verifiers[session.verifier].in_flight.discard(session.batch, session.id)
        session.phase, session.since = phase, now
        self.set_timer(session, session.deadline_at if timer_at is None else timer_at)
        self.update_view(session, now)

    def update_view(self, session: ScheduledSession, now: float) -> None:
        """Update the session's view in its verifier's cohort, which policies read."""
        verifier = self.verifiers.get(session.verifier)
        if verifier is not None:
            view = session.view(self.can_draft(session, now), self.estimates.device(session.device))
            verifier.cohort.put(view)
            self.dirty.add(verifier.name)

    def set_timer(self, session: ScheduledSession, at: float) -> None:
        """Set the session's timer, at its deadline at the latest."""
        session.timer_at = min(at, session.deadline_at)
        self.timers.set(session.id, session.timer_at)

    def remove(self, session: ScheduledSession, finish: str) -> None:
        """Remove a session that has ended."""
        self.metrics.ends.labels(finish).inc()
        if session.verifier in self.verifiers:
            self.verifiers[session.verifier].throughput.ended(session.prompt_len)
        if self.window is not None:
            self.window.forget(session.id)
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
        """Take the session off its device."""
        if session.device:
            self.loads.remove(session.device)
        session.device = ""
        self.deviceless.pop(session.id, None)

    def release_verifier(self, session: ScheduledSession) -> None:
        """Take the session off its verifier."""
        verifier = self.verifiers.get(session.verifier)
        if verifier is not None:
            verifier.in_flight.discard(session.batch, session.id)
            verifier.cohort.drop(session.id)
            self.dirty.add(verifier.name)
        session.verifier = ""

    def hold_draft(self, session: ScheduledSession, held: HeldDraft) -> None:
        """Hold a draft until its batch closes; its stream entry stays unacknowledged."""
        session.held = held
        self.holding.add(held.entry)

    def drop_draft(self, session: ScheduledSession) -> None:
        """Discard and acknowledge the session's held draft, if any."""
        if session.held is not None:
            self.holding.discard(session.held.entry)
            self.do(AckDraft(session.held.entry))
            session.held = None

    # --- queries ----------------------------------------------------------------------------------------
    def can_draft(self, session: ScheduledSession, now: float) -> bool:
        """Whether the session's device is alive, has caught up, and is not on probation."""
        return session.caught_up and now >= session.draft_after and self.fleet.has_device(session.device)

    def next_draft(self, session: ScheduledSession, now: float) -> Decision:
        """Who drafts how far: a device for the round after the row that is being staged, the core for that row.

        No draft is longer than what can be accepted of it: the row itself commits at least one token.
        """
        can_draft = self.can_draft(session, now)
        verifier = self.verifiers.get(session.verifier)
        if not can_draft and self.window is None and not self.policy.trees:
            return Decision.draft(0)
        view = session.view(can_draft, self.estimates.device(session.device))
        if self.window is not None and verifier is not None:
            decision = self.window.decide(view, verifier.load())
        else:
            k = self.policy.next_length(view, verifier.plan if verifier else None, now)
            grower = self._grower(session, can_draft)
            decision = Decision.grow(max(k, 1), grower) if grower else Decision.draft(k)
        if decision.by_core:
            k = max(0, min(decision.k, session.remaining - 1, limits.MAX_DRAFT))
            return Decision.grow(k, "core") if decision.mode == "tree" else Decision.fuse(k)
        k = max(0, min(decision.k, session.remaining - 2, limits.MAX_DRAFT)) if can_draft else 0
        if decision.mode == "tree":
            return Decision.grow(k, "device")
        draft = Decision.draft(k, decision.stop_below)
        allowed = self.policy.trees and self.window is None and self._drafts_trees(session)
        if not k or not allowed or verifier is None:
            return draft
        return replace(draft, siblings=self._siblings(view, verifier, k))

    def _drafts_trees(self, session: ScheduledSession) -> bool:
        """Whether the session's device can draft trees, as its heartbeat says."""
        device = self.fleet.devices.get(name_of(session.device))
        return device is not None and device.trees

    def _grower(self, session: ScheduledSession, can_draft: bool) -> TreeSource:
        """Who grows a tree for the session's stages: its device, whose compute costs the core nothing, or the core."""
        verifier = self.fleet.verifiers.get(session.verifier)
        if not self.policy.trees or verifier is None or verifier.passes == 1:
            return ""
        if can_draft and self._drafts_trees(session):
            return "device"
        return "core" if verifier.trees else ""

    def _siblings(self, view: SessionView, verifier: VerifierState, k: int) -> int:
        """How many nodes more than a chain of k a draft should have. Of several sessions some draft while others are
        verified, so that the pass counts alone.
        """
        load = verifier.load()
        users = max(1, round(load.rows))
        round_ms = _pass_ms(load, k)
        if len(load.sessions) == 1:
            round_ms += 1e3 * (k * view.draft_s_per_token + view.link_s)
        second = self.estimates.device(view.device).second.value
        worth = siblings_worth(k, view.alpha, second, load.law.per_token_ms, round_ms, users)
        return max(0, min(worth, view.remaining - 2 - k, k))

    def pass_s(self, verifier: str, k: int) -> float:
        """Seconds of a verifier's pass at its present load with drafts of k; 0 for one that is not known."""
        return _pass_ms(self.verifiers[verifier].load(), k) / 1e3 if verifier in self.verifiers else 0.0

    def passes_of(self, verifier: str) -> int:
        """Passes that a verifier may have under way, as its heartbeat says."""
        beat = self.fleet.verifiers.get(verifier)
        return beat.passes if beat else 1

    def verdict_wait_s(self, session: ScheduledSession) -> float:
        """Limit for the session's verdict: longer for a busy verifier, doubled after each miss."""
        verifier = self.verifiers[session.verifier]
        wait_s = max(self.config.move_timeout_s, 4 * verifier.in_flight.expected_s())
        return float(wait_s * 2 ** min(session.misses, MAX_MISSES))

    def draft_wait_s(self, session: ScheduledSession) -> float:
        """Limit for the session's draft. A device's first draft gets the longest, since it may still prefill."""
        longest_s = self.config.move_timeout_s
        if session.drafts == 0:
            return longest_s
        usual_s = self.estimates.device(session.device).turnaround_s(session.allowed_k)
        return min(longest_s, max(MIN_DRAFT_WAIT_S, 4 * usual_s))


def _pass_ms(load: Load, k: int) -> float:
    """Milliseconds of a pass of the present rows, each with a draft of k."""
    users = max(1, round(load.rows))
    return float(load.law.pass_ms(Shape(users, users * (1 + k), 1 + k, users * load.cached, load.cached)))
