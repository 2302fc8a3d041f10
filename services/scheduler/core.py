"""The scheduler's state machine, without clock or I/O: messages, heartbeats and the time go in, effects come out.

In each turn the shell calls `handle` for every message that has arrived, then `tick` once, and then performs the
effects. So a batch closes only after all available messages have been handled.
"""

from collections.abc import Mapping

from services.scheduler import bandwidth, placement, plans, recovery, rounds, staging
from services.scheduler.effects import Effect, Persist, Stage
from services.scheduler.fleet import LiveProcesses, address
from services.scheduler.metrics import Metrics
from services.scheduler.session import ScheduledSession
from services.scheduler.state import Config, Estimates, State
from shared.planning.bandwidth_rules import BY_POLICY, RULES
from shared.planning.estimates import DeviceEstimate
from shared.planning.policies import UnknownPolicy, make_policy
from shared.planning.policy import Plan, Policy
from shared.planning.windows import NO_WINDOW, UnknownWindow, make_window
from shared.planning.windows.window import Window
from shared.protocol.messages import Cancel, Control, Draft, Message, Resync, Submit, Verdict
from shared.protocol.session import SessionHead


class UnexpectedMessage(ValueError):
    """A message of a type that the scheduler does not accept."""


class Core:
    """One term of one scheduler. Every method returns at once; `now` is loop-clock seconds."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        estimates: Estimates,
        metrics: Metrics,
        window: Window | None = None,
    ) -> None:
        """window: sets draft lengths in place of the policy; None = the policy does."""
        self._state = State(config, policy, estimates, metrics, window)
        metrics.phases.clear()

    # --- in ---------------------------------------------------------------------------------------------
    def handle(self, message: Message, entry: str, now: float, again: bool = False, size: int = 0) -> None:
        """Handle one message. entry: its id in its stream; again: it was delivered before. size: its bytes.

        Raises UnexpectedMessage. Afterwards the entry may be acknowledged unless `holds(entry)`.
        """
        match message:
            case Draft():
                self._state.cells.came(message.device, size, len(message.tokens), now)
                if not self.holds(entry):
                    rounds.on_draft(self._state, entry, message, now)
            case Verdict():
                rounds.on_verdict(self._state, message, now)
            case Submit():
                recovery.on_submit(self._state, message, now, again)
            case Resync():
                rounds.on_resync(self._state, message, now)
            case Cancel():
                self._cancel(message)
            case Control():
                self._control(message, now)
            case _:
                raise UnexpectedMessage(f"a {type(message).__name__} for the scheduler")

    def update_fleet(self, fleet: LiveProcesses, now: float, trusted: bool) -> None:
        """Update the live processes. trusted: a process missing from the fleet is dead."""
        placement.update_fleet(self._state, fleet, now, trusted)

    def on_head(self, head: SessionHead, now: float) -> None:
        """Handle the log head that a ReadHead effect asked for."""
        recovery.on_head(self._state, head, now)

    def on_missing_log(self, session: str) -> None:
        """Handle a ReadHead whose session log does not exist: the session is over."""
        if session in self._state.sessions:
            self._state.remove(self._state.sessions[session], "gone")

    def on_stage_refused(self, effect: Stage, now: float) -> None:
        """Handle a batch that was not staged because the verifier's stream is full."""
        staging.on_refused(self._state, effect, now)

    def adopt(self, head: SessionHead, now: float) -> None:
        """Adopt a live session from its log at the start of a term. Call `resume` after all pending messages."""
        recovery.adopt(self._state, head, now)

    def resume(self, now: float) -> None:
        """Make every adopted session that no message has claimed ready for a row."""
        recovery.resume_all(self._state, now)

    def restore(self, kept: Mapping[str, str]) -> None:
        """Restore the policy and threads of an earlier Control. Raises ValueError for what is not known, KeyError."""
        threads = int(kept.get("verifier_threads", 0)), int(kept.get("draft_threads", 0))
        k = int(kept["k"])
        policy, window = make_policy(kept["policy"], k, self._state.config.batches), kept.get("window", "")
        if window != self._window_name:  # what the present one has learnt is kept
            self._use_window(window, k)
        self._use(policy)
        self._state.threads = threads
        self._state.cells.use(kept.get("bandwidth", BY_POLICY))

    # --- plans ------------------------------------------------------------------------------------------
    def plan_requests(self, now: float) -> list[plans.PlanRequest]:
        """Plan requests that are due, one for each verifier at most."""
        return plans.requests(self._state, now)

    def mark_plan_requested(self, request: plans.PlanRequest, now: float) -> None:
        """Record that a plan is being computed for this request."""
        plans.mark_requested(self._state, request, now)

    def take_plan(self, request: plans.PlanRequest, plan: Plan | None, now: float) -> None:
        """Take a computed plan (None: there is none); the next `tick` applies it."""
        plans.accept(self._state, request, plan, now)

    def update_plan_metrics(self, now: float) -> None:
        """Update the metrics about plans and throughput."""
        plans.update_metrics(self._state, now)

    # --- out --------------------------------------------------------------------------------------------
    def tick(self, now: float) -> list[Effect]:
        """Fire due timers and close batches. Returns all effects since the last tick."""
        state = self._state
        for session in state.timers.due(now):
            rounds.on_overdue(state, state.sessions[session], now)
        for verifier in state.take_dirty(now):
            staging.close_batches(state, verifier, now)
        for name in list(state.grown):
            staging.pass_on(state, name)
        bandwidth.turn(state, now)
        return state.take_effects()

    def next_wake(self) -> float | None:
        """Latest time of the next `tick` if no message arrives; None = no deadline."""
        state = self._state
        times = state.timers.next_at(), state.closings.next_at(), bandwidth.next_at(state)
        return min((at for at in times if at is not None), default=None)

    def holds(self, entry: str) -> bool:
        """Whether an entry of the draft stream is held for a batch, so that it must not be acknowledged yet."""
        return entry in self._state.holding

    @property
    def sessions(self) -> Mapping[str, ScheduledSession]:
        """Sessions by id, read-only."""
        return self._state.sessions

    def devices(self) -> dict[str, DeviceEstimate]:
        """Estimates of each live device, by name."""
        state = self._state
        return {name: state.estimates.device(address(beat)) for name, beat in state.fleet.devices.items()}

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._state.policy

    def policy_record(self, source: str) -> Persist:
        """The effect that writes the policy and thread counts, which `restore` reads. source: what set them."""
        verifier_threads, draft_threads = self._state.threads
        return Persist(
            {
                "policy": self.policy.name,
                "k": str(self.policy.k),
                "window": self._window_name,
                "bandwidth": self._state.cells.rule,
                "verifier_threads": str(verifier_threads),
                "draft_threads": str(draft_threads),
                "source": source,
            }
        )

    # --- the rest of `handle` ---------------------------------------------------------------------------
    def _cancel(self, cancel: Cancel) -> None:
        session = self._state.sessions.get(cancel.session)
        if session is None:
            self._state.metrics.dropped.labels("cancel", "unknown").inc()
        else:
            placement.end(self._state, session, cancel.reason or "cancel")

    def _control(self, control: Control, now: float) -> None:
        state = self._state
        k = control.k or state.config.k
        try:
            policy = make_policy(control.policy, k, state.config.batches) if control.policy else None
            self._use_window(control.window, k)
        except (UnknownPolicy, UnknownWindow):
            state.metrics.dropped.labels("control", "unknown policy").inc()
            return
        if control.bandwidth and control.bandwidth not in RULES:
            state.metrics.dropped.labels("control", "unknown bandwidth").inc()
            return
        if policy:
            self._use(policy)
        state.cells.use(control.bandwidth or state.cells.rule)
        for session in state.sessions.values():
            if session.phase == "kept":  # its next row takes it back
                state.enter(session, "ready", now)
        verifier_threads, draft_threads = state.threads
        state.threads = control.verifier_threads or verifier_threads, control.draft_threads or draft_threads
        placement.tune(
            state,
            list(state.fleet.verifiers.values()) if control.verifier_threads else [],
            list(state.fleet.devices.values()) if control.draft_threads else [],
        )
        state.do(self.policy_record("control"))

    @property
    def _window_name(self) -> str:
        return self._state.window.name if self._state.window else NO_WINDOW

    def _use_window(self, name: str, k: int) -> None:
        """Switch the window controller; "" leaves it as it is. Raises UnknownWindow."""
        if name == NO_WINDOW:
            self._state.window = None
        elif name:
            self._state.window = make_window(name, k)

    def _use(self, policy: Policy) -> None:
        """Switch the policy. It applies from each session's next round; drafts under way are verified unchanged."""
        self._state.policy = policy
        for verifier in self._state.verifiers.values():
            verifier.forget_plan(policy.lanes)
            self._state.dirty.add(verifier.name)
