"""The scheduler without clock and wire: messages, time and heartbeats in, effects out.

A turn of the shell is: `handle` every message that has come, then `tick` once, then do the effects. So a batch
closes only after all that was known has been taken in.
"""

from collections.abc import Mapping

from services.scheduler import placement, plans, recovery, rounds, staging
from services.scheduler.effects import Effect, Persist, Stage
from services.scheduler.fleet import Fleet, address
from services.scheduler.metrics import Metrics
from services.scheduler.session import ScheduledSession
from services.scheduler.state import Config, Estimates, State
from services.scheduler.throughput import Throughput
from shared.planning.estimates import DeviceEstimate
from shared.planning.policies import UnknownPolicy, make_policy
from shared.planning.policy import Plan, Policy
from shared.protocol.messages import Cancel, Control, Draft, Message, Resync, Submit, Verdict
from shared.protocol.session import SessionHead


class UnexpectedMessage(ValueError):
    """A message that no scheduler gets."""


class Core:
    """One term of one scheduler. Every method returns at once; `now` is loop-clock seconds."""

    def __init__(self, config: Config, policy: Policy, estimates: Estimates, metrics: Metrics) -> None:
        self._state = State(config, policy, estimates, metrics)
        metrics.phases.clear()

    # --- in ---------------------------------------------------------------------------------------------
    def handle(self, message: Message, entry: str, now: float, again: bool = False) -> None:
        """Take in one message. entry: its id in its stream; again: it was delivered before.

        Raises UnexpectedMessage. Afterwards the entry may be acknowledged unless `holds(entry)`.
        """
        match message:
            case Draft():
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
                self._control(message)
            case _:
                raise UnexpectedMessage(f"a {type(message).__name__} for the scheduler")

    def update_fleet(self, fleet: Fleet, now: float, trusted: bool) -> None:
        """Who is alive. trusted: who is not in it is dead."""
        placement.update_fleet(self._state, fleet, now, trusted)

    def on_head(self, head: SessionHead, now: float) -> None:
        """The answer to ReadHead."""
        recovery.on_head(self._state, head, now)

    def on_missing_log(self, session: str) -> None:
        """The answer to ReadHead when there is no such log."""
        if session in self._state.sessions:
            self._state.remove(self._state.sessions[session], "gone")

    def on_stage_refused(self, effect: Stage, now: float) -> None:
        """A batch was not staged: the verifier's stream is full."""
        staging.on_refused(self._state, effect, now)

    def adopt(self, head: SessionHead, now: float) -> None:
        """A live session found in the log at the start; `resume` follows when all messages under way are in."""
        recovery.adopt(self._state, head, now)

    def resume(self, now: float) -> None:
        """Every adopted session whose next move nobody is known to own is ours."""
        recovery.resume_all(self._state, now)

    def restore(self, kept: Mapping[str, str]) -> None:
        """The policy as an earlier Control left it. Raises UnknownPolicy, ValueError."""
        threads = int(kept.get("verifier_threads", 0)), int(kept.get("draft_threads", 0))
        self._use(make_policy(kept["policy"], int(kept["k"]), self._state.config.batches))
        self._state.threads = threads

    # --- plans ------------------------------------------------------------------------------------------
    def plan_requests(self, now: float) -> list[plans.PlanRequest]:
        """What to plan, beside serving."""
        return plans.requests(self._state, now)

    def mark_plan_requested(self, request: plans.PlanRequest, now: float) -> None:
        """Somebody works on it."""
        plans.mark_requested(self._state, request, now)

    def take_plan(self, request: plans.PlanRequest, plan: Plan | None, now: float) -> None:
        """What came of it; `tick` acts on it."""
        plans.accept(self._state, request, plan, now)

    def update_plan_metrics(self, now: float) -> None:
        """Bring the metrics of plans up to date."""
        plans.update_metrics(self._state, now)

    # --- out --------------------------------------------------------------------------------------------
    def tick(self, now: float) -> list[Effect]:
        """Fire the timers that are due, close the batches that can close; everything to be done since the last."""
        state = self._state
        for session in state.timers.due(now):
            rounds.on_overdue(state, state.sessions[session], now)
        for verifier in state.verifiers.values():
            due = verifier.select_at is not None and verifier.select_at <= now
            held_back = 0 < verifier.refused_until <= now
            if verifier.name in state.dirty or due or held_back:
                verifier.refused_until = 0.0 if held_back else verifier.refused_until
                staging.close_batches(state, verifier, now)
        state.dirty.clear()
        return state.take_effects()

    def next_wake(self) -> float | None:
        """When `tick` has to be called at the latest, if no message comes; None = not at all."""
        times = [self._state.timers.next_at()]
        for verifier in self._state.verifiers.values():
            times += [verifier.select_at, verifier.refused_until or None]
        return min((at for at in times if at is not None), default=None)

    def holds(self, entry: str) -> bool:
        """Whether an entry of the draft stream waits here for its batch."""
        return entry in self._state.holding

    @property
    def sessions(self) -> Mapping[str, ScheduledSession]:
        """Sessions by id, to look at."""
        return self._state.sessions

    def devices(self) -> dict[str, DeviceEstimate]:
        """What is known of each device that is alive, by name."""
        state = self._state
        return {name: state.estimates.device(address(beat)) for name, beat in state.fleet.devices.items()}

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._state.policy

    def policy_fields(self) -> dict[str, str]:
        """The policy and threads as `Persist` keeps them and `restore` takes them."""
        verifier_threads, draft_threads = self._state.threads
        return {
            "policy": self.policy.name,
            "k": str(self.policy.k),
            "verifier_threads": str(verifier_threads),
            "draft_threads": str(draft_threads),
        }

    # --- the rest of `handle` ---------------------------------------------------------------------------
    def _cancel(self, cancel: Cancel) -> None:
        session = self._state.sessions.get(cancel.session)
        if session is None:
            self._state.metrics.dropped.labels("cancel", "unknown").inc()
        else:
            placement.end(self._state, session, cancel.reason or "cancel")

    def _control(self, control: Control) -> None:
        state = self._state
        if control.policy:
            try:
                self._use(make_policy(control.policy, control.k or state.config.k, state.config.batches))
            except UnknownPolicy:
                state.metrics.dropped.labels("control", "unknown policy").inc()
                return
        verifier_threads, draft_threads = state.threads
        state.threads = control.verifier_threads or verifier_threads, control.draft_threads or draft_threads
        placement.tune(
            state,
            list(state.fleet.verifiers.values()) if control.verifier_threads else [],
            list(state.fleet.devices.values()) if control.draft_threads else [],
        )
        state.do(Persist({**self.policy_fields(), "source": "control"}))

    def _use(self, policy: Policy) -> None:
        """In force from each session's next round on: drafts under way are verified as they were requested."""
        self._state.policy = policy
        for verifier in self._state.verifiers.values():
            verifier.cohort = verifier.cohort.relane(policy.lanes)
            verifier.plan, verifier.planned, verifier.throughput = None, None, Throughput()
            verifier.plan_took_s = 0.0
            self._state.dirty.add(verifier.name)
