"""One verifier as the scheduler knows it: its cohort, what is staged there, and what a pass costs."""

from dataclasses import dataclass, field
from math import inf

from services.scheduler.debounce import Debounce
from services.scheduler.throughput import Throughput
from shared.planning.cohort import Cohort
from shared.planning.cost import Packed, Row
from shared.planning.drift import Planned
from shared.planning.estimates import Mean, VerifyCost
from shared.planning.policy import Plan
from shared.planning.problem import PackedServer
from shared.planning.views import VerifierView


@dataclass(slots=True)
class InFlightBatch:
    """A batch without a verdict yet."""

    rows: tuple[Row, ...]  # (new tokens, cached before), for the cost law
    sessions: set[str]
    expected_s: float
    staged_at: float
    decodes: bool  # nothing but decoding rows
    arrivals: int = 0  # drafts, while it was the verifier's business


@dataclass(frozen=True, slots=True)
class Pass:
    """A batch that was answered: its rows, and how long it was the verifier's only business."""

    rows: tuple[Row, ...]
    took_s: float
    decodes: bool
    arrivals: int = 0


class InFlightBatches:
    """Batches staged and not answered. The verifier works in order, so an answer also settles all before it."""

    def __init__(self) -> None:
        self._batches: dict[int, InFlightBatch] = {}
        self._unmeasured: tuple[int, Pass] | None = None
        self._settled_at = 0.0

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: int, staged: InFlightBatch) -> None:
        """A batch was staged."""
        self._batches[batch] = staged

    def settle(self, batch: int, now: float) -> bool:
        """A verdict of this batch has come. False when it was settled before."""
        if batch not in self._batches:
            return False
        staged = self._batches.pop(batch)
        self._unmeasured = (
            batch,
            Pass(staged.rows, now - max(staged.staged_at, self._settled_at), staged.decodes, staged.arrivals),
        )
        self._settled_at = now
        for earlier in [number for number in self._batches if number < batch]:
            del self._batches[earlier]
        return True

    def count_draft(self) -> None:
        """A draft of one of the verifier's sessions, for a later batch."""
        head = next(iter(self._batches.values()), None)
        if head is not None:
            head.arrivals += 1

    def pop_measured(self, batch: int) -> Pass | None:
        """The batch settled last, once: for the first verdict that tells what its pass took."""
        if self._unmeasured is None or self._unmeasured[0] != batch:
            return None
        _, done = self._unmeasured
        self._unmeasured = None
        return done

    def discard(self, batch: int, session: str) -> None:
        """A session does not wait for its row any more; a batch that nobody waits for is settled."""
        staged = self._batches.get(batch)
        if staged is not None:
            staged.sessions.discard(session)
            if not staged.sessions:
                del self._batches[batch]

    def rows(self) -> int:
        """Rows under way."""
        return sum(len(staged.rows) for staged in self._batches.values())

    def expected_s(self) -> float:
        """Expected seconds of verification under way."""
        return sum(staged.expected_s for staged in self._batches.values())

    def free_at(self, now: float) -> float:
        """When the verifier has done all of it, as expected; now at the earliest."""
        at = self._settled_at
        for staged in self._batches.values():
            at = max(at, staged.staged_at) + staged.expected_s
        return max(at, now)

    def clear(self) -> None:
        """Forget all of them."""
        self._batches.clear()


@dataclass(slots=True)
class Costs:
    """What passes of a verifier cost. Prompts' tokens are cheaper than drafted ones, so decoding has a law of its own.

    hop_ms: what a pass takes beside computing, from one batch's verdicts to the next's.
    """

    any: VerifyCost
    decoding: VerifyCost
    hop_ms: Mean

    @classmethod
    def starting(cls, prior: Packed | None, hop_ms: float) -> "Costs":
        """From what is known beforehand."""
        return cls(VerifyCost(prior), VerifyCost(prior), Mean(hop_ms, weight=0.05))

    def observe(self, done: Pass, verify_ms: float) -> None:
        """A pass, and what it computed for."""
        self.any.observe(done.rows, verify_ms)
        if done.decodes:
            self.decoding.observe(done.rows, verify_ms, done.arrivals)
            self.hop_ms.observe(max(0.0, 1e3 * done.took_s - verify_ms))


@dataclass(slots=True)
class Verifier:
    """A verifier that is alive, or was and has sessions waiting for it."""

    name: str
    generation: int
    cohort: Cohort
    costs: Costs
    kv_tokens: int = 0  # 0 = not known
    live: bool = True
    in_flight: InFlightBatches = field(default_factory=InFlightBatches)
    decode_ms: Mean = field(default_factory=lambda: Mean(0.0))  # of passes without prefill, expected
    refused_until: float = 0.0  # its stream was full
    select_at: float | None = None  # when the policy wants to be asked again
    plan: Plan | None = None
    plan_at: float = 0.0
    planned: Planned | None = None  # what was asked last
    planned_at: float = -1e9  # and when
    plan_took_s: float = 0.0  # the last one
    debounce: Debounce = field(default_factory=Debounce)
    throughput: Throughput = field(default_factory=Throughput)

    @property
    def cost(self) -> VerifyCost:
        """Of any pass."""
        return self.costs.any

    def server(self) -> PackedServer:
        """As planners take it: a pass costs what the hop to the next one takes as well. Memory in KV tokens."""
        law = self.costs.decoding.expected()
        whole = Packed(law.beta_ms + self.costs.hop_ms.value, law.per_token_ms, law.per_context_ms)
        prompts = self.throughput.prompts(self.costs.any.expected().per_token_ms)
        return PackedServer(whole, self.kv_tokens or inf, 1.0, self.costs.decoding.arrival_ms, prompts)

    def view(self, now: float, max_rows: int) -> VerifierView:
        """The verifier as policies see it."""
        return VerifierView(
            name=self.name,
            in_flight=len(self.in_flight),
            rows_in_flight=self.in_flight.rows(),
            expected_free=self.in_flight.free_at(now),
            max_rows=max_rows,
        )
