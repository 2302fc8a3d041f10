"""What the stages did, piece by piece, as spans of a timeline (OUTRIDER_TRACE=1). Kept at rank 0, by its clock.

A stage tells how long a piece waited and was computed there; what is left of its time around the ring is taken as equal
hops. So the clocks of other machines do not matter.

Spans of a stage: role "verifier", name "NAME-stage-N", step = the piece's number; "idle" since the pass before; and for
each session of the piece one "verify", with round = its rows and epoch = those among them that were dead when the pass
began: nodes of a tree whose parent was decided otherwise. Spans of rank 0's own work have the name "NAME-rank-0":
"draft" is a level of the drafter, "verify" the head and the decisions of a piece.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

import structlog

from shared.broker.contract import BrokerAway
from shared.protocol.messages import Span

COMMITTED: Final = None  # in place of a node: a row that lives in any case
MAX_WAITING: Final = 4096  # lists of spans that are not written yet; further ones are dropped

NAME_LENGTH: Final = 48  # of the verifier's name, which is followed by the rank

Node = int | None
Write = Callable[[Sequence[Span]], Awaitable[None]]

log = structlog.get_logger()


@dataclass(slots=True)
class _Flight:
    """A piece under way. nodes: of each session's rows; died: when each of them did, inf = it lives."""

    nodes: dict[str, Sequence[Node]]
    died: dict[str, list[float]]
    sent: float = inf


class PieceTimeline:
    """Does nothing until `run` has begun."""

    def __init__(self) -> None:
        self._name = ""
        self._flights: dict[int, _Flight] = {}
        self._ends: list[float] = []  # of each stage's last pass
        self._waiting: asyncio.Queue[Sequence[Span]] | None = None  # None = nobody wants spans

    async def run(self, name: str, stages: int, write: Write) -> None:
        """Write spans until it is cancelled. name: of the verifier."""
        self._name, self._ends = name[:NAME_LENGTH], [asyncio.get_running_loop().time()] * stages
        self._waiting = asyncio.Queue(MAX_WAITING)
        while True:
            spans = await self._waiting.get()
            try:
                await write(spans)
            except BrokerAway as error:
                log.debug("spans dropped", why=str(error))

    def made(self, number: int, rows: Iterable[tuple[str, Sequence[Node]]]) -> None:
        """A piece was made. rows: sessions, and for each of their rows its node or COMMITTED."""
        if self._waiting is not None:
            nodes = dict(rows)
            died = {session: [inf] * len(of) for session, of in nodes.items()}
            self._flights[number] = _Flight(nodes, died)

    def sent(self, number: int) -> None:
        """A piece is on its way."""
        if number in self._flights:
            self._flights[number].sent = asyncio.get_running_loop().time()

    def decided(self, session: str, lives: Callable[[int], bool]) -> None:
        """Something of a session's tree was decided. lives: whether a node is still in it."""
        if not self._flights:
            return
        now = asyncio.get_running_loop().time()
        for flight in self._flights.values():
            died = flight.died.get(session, ())
            for at, node in enumerate(flight.nodes.get(session, ())):
                if node is not COMMITTED and died[at] == inf and not lives(node):
                    flight.died[session][at] = now

    def over(self, session: str) -> None:
        """A session's tree is gone as a whole."""
        self.decided(session, lambda _: False)

    def returned(self, number: int, times_us: Sequence[int]) -> None:
        """A piece is back. times_us: per stage how long it waited and how long it was computed."""
        flight = self._flights.pop(number, None)
        if flight is None or self._waiting is None or len(times_us) != 2 * len(self._ends):
            return
        now = asyncio.get_running_loop().time()
        hop = max(0.0, now - flight.sent - sum(times_us) / 1e6) / (len(self._ends) + 1)
        at, spans = flight.sent, []
        for stage, (waited_us, computed_us) in enumerate(zip(times_us[::2], times_us[1::2], strict=True)):
            begin = max(at + hop + waited_us / 1e6, self._ends[stage])
            at = self._ends[stage] if computed_us == 0 else begin + computed_us / 1e6
            spans += self._of_pass(number, flight, stage, begin, at)
            self._ends[stage] = at
        self._put(spans)

    def worked(self, kind: Literal["draft", "verify"], begin: float, sessions: Iterable[str]) -> None:
        """Rank 0 has done something for sessions since a time of the loop."""
        if self._waiting is not None:
            end = asyncio.get_running_loop().time()
            name = f"{self._name}-rank-0"
            self._put([_span(name, session, 0, 0, kind, begin, end, 0) for session in sessions])

    def _of_pass(self, number: int, flight: _Flight, stage: int, begin: float, end: float) -> list[Span]:
        name = f"{self._name}-stage-{stage + 1}"
        spans = [_span(name, "", 0, 0, "idle", min(self._ends[stage], begin), begin, number)]
        for session, died in flight.died.items():
            dead = sum(at < begin for at in died)
            spans.append(_span(name, session, dead, len(died), "verify", begin, end, number))
        return spans

    def _put(self, spans: Sequence[Span]) -> None:
        if self._waiting is not None and not self._waiting.full():
            self._waiting.put_nowait(spans)


def _span(
    name: str,
    session: str,
    epoch: int,
    round_: int,
    kind: Literal["draft", "verify", "idle"],
    begin: float,
    end: float,
    step: int,
) -> Span:
    return Span(
        role="verifier",
        name=name,
        session=session,
        epoch=epoch,
        round=round_,
        kind=kind,
        start_us=round(begin * 1e6),
        end_us=round(end * 1e6),
        step=step,
        offset_us=0,
    )
