"""The scheduler's view of one verifier: its cohort, its staged batches, its pass costs and its plan."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

from services.scheduler.debounce import Debounce
from services.scheduler.throughput import Throughput
from shared.planning.cost import Packed, Row
from shared.planning.drift import PlanInputs
from shared.planning.estimates import Mean, VerifyCost
from shared.planning.policy import Plan
from shared.planning.problem import PackedServer
from shared.planning.session_index import SessionIndex
from shared.planning.views import VerifierView
from shared.planning.windows.window import Load


@dataclass(slots=True)
class InFlightBatch:
    """A staged batch without a verdict yet."""

    rows: tuple[Row, ...]  # (new tokens, cached before), for the cost law
    sessions: set[str]
    expected_s: float
    staged_at: float
    decodes: bool  # it has decoding rows only
    arrivals: int = 0  # drafts that arrived while it was the verifier's current batch


@dataclass(frozen=True, slots=True)
class Pass:
    """An answered batch: its rows, and how long the verifier worked on it."""

    rows: tuple[Row, ...]
    took_s: float
    decodes: bool
    arrivals: int = 0

    def with_fused(self, tokens: int) -> "Pass":
        """The same with so many more tokens, which the verifier drafted itself, in any of its rows."""
        (new, cached), *others = self.rows
        return replace(self, rows=((new + tokens, cached), *others)) if tokens else self


class InFlightBatches:
    """Batches staged and not answered. A verifier works in order, so an answer completes all earlier batches too."""

    def __init__(self) -> None:
        self._batches: dict[int, InFlightBatch] = {}
        self._unmeasured: tuple[int, Pass] | None = None
        self._completed = 0  # number of the batch completed last
        self._completed_at = 0.0

    def __len__(self) -> int:
        return len(self._batches)

    def knows(self, batch: int) -> bool:
        """Whether the batch is in flight, or was the last to be completed."""
        return batch in self._batches or batch == self._completed

    def add(self, batch: int, staged: InFlightBatch) -> None:
        """Add a staged batch."""
        self._batches[batch] = staged

    def complete(self, batch: int, now: float) -> bool:
        """Complete a batch on its first verdict. Returns False when it was complete before."""
        if batch not in self._batches:
            return False
        staged = self._batches.pop(batch)
        self._unmeasured = (
            batch,
            Pass(
                staged.rows, now - max(staged.staged_at, self._completed_at), staged.decodes, staged.arrivals
            ),
        )
        self._completed, self._completed_at = batch, now
        for earlier in [number for number in self._batches if number < batch]:
            del self._batches[earlier]
        return True

    def count_draft(self) -> None:
        """Count a draft that arrived for a later batch while the current one runs."""
        head = next(iter(self._batches.values()), None)
        if head is not None:
            head.arrivals += 1

    def pop_measured(self, batch: int) -> Pass | None:
        """The batch completed last, once only: for its first verdict that has a verification time."""
        if self._unmeasured is None or self._unmeasured[0] != batch:
            return None
        _, done = self._unmeasured
        self._unmeasured = None
        return done

    def discard(self, batch: int, session: str) -> None:
        """Remove a session that no longer waits for its row. A batch without waiting sessions is dropped."""
        staged = self._batches.get(batch)
        if staged is not None:
            staged.sessions.discard(session)
            if not staged.sessions:
                del self._batches[batch]

    def rows(self) -> int:
        """Number of rows in flight."""
        return sum(len(staged.rows) for staged in self._batches.values())

    def expected_s(self) -> float:
        """Expected verification time of all batches in flight, in seconds."""
        return sum(staged.expected_s for staged in self._batches.values())

    def free_at(self, now: float) -> float:
        """When the verifier is expected to have finished all batches; `now` at the earliest."""
        at = self._completed_at
        for staged in self._batches.values():
            at = max(at, staged.staged_at) + staged.expected_s
        return max(at, now)

    def clear(self) -> None:
        """Forget all batches."""
        self._batches.clear()


@dataclass(slots=True)
class PassCosts:
    """Pass costs of a verifier. Prompt tokens are cheaper than drafted ones, so decoding passes have their own law.

    hop_ms: time a pass takes beside computing, from one batch's verdicts to the next's.
    """

    any: VerifyCost
    decoding: VerifyCost
    hop_ms: Mean

    @classmethod
    def starting(cls, prior: Packed | None, hop_ms: float) -> "PassCosts":
        """Costs before any pass was observed."""
        return cls(VerifyCost(prior), VerifyCost(prior), Mean(hop_ms, weight=0.05))

    def observe(self, done: Pass, verify_ms: float) -> None:
        """Learn from a pass. verify_ms: its computing time."""
        self.any.observe(done.rows, verify_ms)
        if done.decodes:
            self.decoding.observe(done.rows, verify_ms, done.arrivals)
            self.hop_ms.observe(max(0.0, 1e3 * done.took_s - verify_ms))


@dataclass(slots=True)
class VerifierState:
    """A live verifier, or a dead one whose sessions wait for its return."""

    name: str
    generation: int
    cohort: SessionIndex
    costs: PassCosts
    kv_tokens: int = 0  # capacity of its KV cache; 0 = not known
    live: bool = True
    number: int = 0  # counts verifiers in the order in which they came
    in_flight: InFlightBatches = field(default_factory=InFlightBatches)
    rows: Mean = field(default_factory=lambda: Mean(1.0))  # decoding rows of a pass
    cached: Mean = field(default_factory=lambda: Mean(0.0))  # their cached tokens together
    decode_ms: Mean = field(default_factory=lambda: Mean(0.0))  # expected time of passes without prefill
    refused_until: float = 0.0  # nothing is staged until then, because its stream was full
    plan: Plan | None = None
    plan_at: float = 0.0
    planned: PlanInputs | None = None  # inputs of the last plan request
    planned_at: float = -1e9  # time of the last plan request
    plan_took_s: float = 0.0  # planning time of the last plan
    debounce: Debounce = field(default_factory=Debounce)
    throughput: Throughput = field(default_factory=Throughput)

    def observe_batch(self, rows: Sequence[Row]) -> None:
        """Observe the decoding rows of a batch that is staged."""
        self.rows.observe(len(rows))
        self.cached.observe(sum(cached for _, cached in rows))

    @property
    def cost(self) -> VerifyCost:
        """Cost law of any pass."""
        return self.costs.any

    def forget_plan(self, lanes: int) -> None:
        """Drop the plan, and measure throughput anew. lanes: of the policy that takes over."""
        self.cohort = self.cohort.balanced(lanes)
        self.plan, self.planned, self.throughput = None, None, Throughput()
        self.plan_took_s = 0.0

    def server(self) -> PackedServer:
        """The verifier as planners see it: a pass includes the hop to the next one; memory is in KV tokens."""
        law = self.costs.decoding.expected()
        whole = Packed(law.beta_ms + self.costs.hop_ms.value, law.per_token_ms, law.per_context_ms)
        prompts = self.throughput.prompts(self.costs.any.expected().per_token_ms)
        return PackedServer(whole, self.kv_tokens or inf, 1.0, self.costs.decoding.arrival_ms, prompts)

    def load(self) -> Load:
        """The load as window controllers see it."""
        law, rows = self.costs.decoding.expected(), max(self.rows.value, 1.0)
        return Load(
            verifier=self.name,
            step=self.rows.seen,
            law=Packed(law.beta_ms + self.costs.hop_ms.value, law.per_token_ms, law.per_context_ms),
            rows=rows,
            cached=self.cached.value / rows,
            sessions=self.cohort,
            queue_s=self.in_flight.expected_s(),
            prompts=self.throughput.prompts(self.costs.any.expected().per_token_ms),
        )

    def view(self, now: float, max_rows: int) -> VerifierView:
        """The verifier as policies' `select` sees it."""
        return VerifierView(
            name=self.name,
            in_flight=len(self.in_flight),
            rows_in_flight=self.in_flight.rows(),
            expected_free=self.in_flight.free_at(now),
            max_rows=max_rows,
        )
