"""One verifier as the scheduler knows it: its cohort, what is staged there, and what a pass costs."""

from dataclasses import dataclass, field

from shared.planning.cohort import Cohort
from shared.planning.cost import Row
from shared.planning.estimates import Mean, VerifyCost
from shared.planning.views import VerifierView


@dataclass(slots=True)
class Flight:
    """A batch without a verdict yet."""

    rows: tuple[Row, ...]  # (new tokens, cached before), for the cost law
    sessions: set[str]
    expected_s: float


class Flights:
    """Batches staged and not answered. The verifier works in order, so an answer also settles all before it."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}
        self._unmeasured: tuple[int, tuple[Row, ...]] = (-1, ())

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, batch: int, flight: Flight) -> None:
        """A batch was staged."""
        self._flights[batch] = flight

    def answered(self, batch: int) -> bool:
        """A verdict of this batch has come. False when it was settled before."""
        if batch not in self._flights:
            return False
        self._unmeasured = batch, self._flights.pop(batch).rows
        for earlier in [number for number in self._flights if number < batch]:
            del self._flights[earlier]
        return True

    def measured(self, batch: int) -> tuple[Row, ...]:
        """The rows of the batch settled last, once: for the first verdict that tells what its pass took."""
        if self._unmeasured[0] != batch:
            return ()
        _, rows = self._unmeasured
        self._unmeasured = -1, ()
        return rows

    def leave(self, batch: int, session: str) -> None:
        """A session does not wait for its row any more; a batch that nobody waits for is settled."""
        flight = self._flights.get(batch)
        if flight is not None:
            flight.sessions.discard(session)
            if not flight.sessions:
                del self._flights[batch]

    def rows(self) -> int:
        """Rows under way."""
        return sum(len(flight.rows) for flight in self._flights.values())

    def expected_s(self) -> float:
        """Expected seconds of verification under way."""
        return sum(flight.expected_s for flight in self._flights.values())

    def clear(self) -> None:
        """Forget all of them."""
        self._flights.clear()


@dataclass(slots=True)
class Verifier:
    """A verifier that is alive, or was and has sessions waiting for it."""

    name: str
    generation: int
    cohort: Cohort
    cost: VerifyCost
    live: bool = True
    flights: Flights = field(default_factory=Flights)
    decode_ms: Mean = field(default_factory=lambda: Mean(0.0))  # of passes without prefill, expected
    refused_until: float = 0.0  # its stream was full
    ask_at: float | None = None  # when the policy wants to be asked again

    def view(self, now: float, max_rows: int) -> VerifierView:
        """The verifier as policies see it."""
        return VerifierView(
            name=self.name,
            in_flight=len(self.flights),
            rows_in_flight=self.flights.rows(),
            expected_free=now + self.flights.expected_s(),
            max_rows=max_rows,
        )
