"""When the pieces under way will have been computed, as rank 0 can work it out from the law of the pipeline. Pure."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from shared.planning.pieces import PipelineLaw


@dataclass(slots=True)
class _Flight:
    """A piece. arrivals, begins, ends: at each stage, in ms; sizes: its rows there. rows: those not known dead."""

    rows: set[tuple[int, int]]
    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    returns: float = 0.0


class Forecast:
    """Times in ms on any clock. A stage leaves dead rows out of a pass that it has not begun."""

    def __init__(self, law: PipelineLaw) -> None:
        self._law = law
        self._flights: deque[_Flight] = deque()
        self._free = [0.0] * len(law.stages)  # when the last piece that has returned left each stage

    def __len__(self) -> int:
        """Pieces under way."""
        return len(self._flights)

    @property
    def living(self) -> int:
        """Pieces under way with a row that is not known to be dead."""
        return sum(bool(flight.rows) for flight in self._flights)

    def first_free(self) -> float:
        """When the first stage will have computed all pieces."""
        return self._flights[-1].ends[0] if self._flights else self._free[0]

    def next_return(self) -> float:
        """When the next piece returns; infinity when none is under way."""
        return self._flights[0].returns if self._flights else float("inf")

    def send(self, rows: Collection[tuple[int, int]], now: float) -> None:
        """A piece of these rows (user, node) is sent."""
        flight = _Flight(set(rows))
        self._plan(flight, now, now)
        self._flights.append(flight)

    def receive(self) -> None:
        """The next piece has returned."""
        self._free = self._flights.popleft().ends

    def drop(self, rows: Collection[tuple[int, int]], now: float) -> None:
        """These rows are dead, which is announced now."""
        changed = False
        for flight in self._flights:
            before = len(flight.rows)
            flight.rows.difference_update(rows)
            changed = changed or len(flight.rows) < before
        if changed:
            flights, self._flights = self._flights, deque()
            for flight in flights:
                self._plan(flight, flight.arrivals[0] - self._law.hop_ms, now)
                self._flights.append(flight)

    def _plan(self, flight: _Flight, sent: float, now: float) -> None:
        """Work out the passes of a piece behind those of the pieces before it. What has begun by now is kept."""
        law, free = self._law, self._flights[-1].ends if self._flights else self._free
        before = self._flights[-1].arrivals if self._flights else [0.0] * len(law.stages)
        arrivals: list[float] = []
        begins, ends, sizes = [], [], []
        arrival = sent + law.hop_ms
        for at, stage in enumerate(law.stages):
            arrival = max(arrival, before[at])  # links keep the order
            arrivals.append(arrival)
            begin, size = max(arrival, free[at]), len(flight.rows)
            heard = now + (at + 1) * law.hop_ms
            end = begin + stage.pass_ms(size)
            if flight.begins and begin < heard:  # begun without the news
                size = flight.sizes[at]
                end = begin + stage.pass_ms(size)
                if not flight.rows and law.layers > 1:
                    end = min(end, max(begin, heard) + stage.pass_ms(size) / law.layers)
                    size = 0
            begins.append(begin)
            ends.append(end)
            sizes.append(size)
            arrival = end + law.hop_ms + law.wire_ms * size
        flight.arrivals, flight.begins, flight.ends, flight.sizes = arrivals, begins, ends, sizes
        flight.returns = max(arrival, self._flights[-1].returns if self._flights else 0.0)
