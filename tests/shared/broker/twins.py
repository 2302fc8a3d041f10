"""Random commands for an in-memory broker and a server, with answers and keys in a form that can be compared.

Entry ids, terms and generations differ between the two. They are compared by their order of appearance.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shared.broker.contract import Broker, BrokerFull, CommitRow, Entry, LeaseLost, UnknownSession
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import (
    Cancel,
    Close,
    Draft,
    Finish,
    Heartbeat,
    Open,
    Role,
    Span,
    StagedBatch,
    Status,
    Verdict,
)
from shared.protocol.session import SessionHead, SessionLog
from tests.shared.broker.logs import PROMPT, spec_of, submit_of

KEYS: Final = Keys()
BOUND: Final = 5  # entries of a work stream, few enough to be reached
SESSIONS: Final = ("s0", "s1", "s2", "s3")
WORK: Final = (KEYS.submit, KEYS.draft, KEYS.verdicts, KEYS.staged("v"), KEYS.staged("w"))
DEVICES: Final = ("pi:1", "mac:2", "")
GATEWAYS: Final = ("gw:1", "")
INBOXES: Final = (KEYS.inbox("pi:1"), KEYS.inbox("mac:2"), KEYS.reply("gw:1"), KEYS.trace, KEYS.dead)
HOLDERS: Final = ("sch:1", "sch:2")
ROLES: Final[tuple[Role, ...]] = ("gateway", "verifier", "draft_worker")
NAMES: Final = ("pi", "mac")
TTL_S: Final = 600.0
DEADLINE_MS: Final = 600_000
UNKNOWN: Final = "0-1"  # an entry id that neither gives


@dataclass
class Side:
    """One of the two brokers, and the numbers that it has given."""

    broker: Broker
    entries: dict[str, list[Entry]] = field(default_factory=dict)  # by stream, in order of first sight
    terms: list[int] = field(default_factory=lambda: [1])  # the first one was never given
    generation: int = 0

    def comparable(self, answer: Any) -> Any:
        """An answer without ids and clocks, which are each side's own."""
        match answer:
            case Entry():
                return answer.stream, self._order(answer), read(answer.data), answer.deliveries
            case SessionHead():
                assert DEADLINE_MS - 100_000 < answer.deadline_ms <= DEADLINE_MS
                return replace(answer, deadline_ms=0)
            case SessionLog():
                return replace(answer, head=self.comparable(answer.head))
            case [Entry(), *_]:
                return sorted(self.comparable(entry) for entry in answer)
            case _:
                return answer

    def ids(self, stream: str, orders: Sequence[int]) -> list[str]:
        """Ids of entries by their order of appearance; an id that was never given for orders beyond."""
        seen = self.entries.get(stream, [])
        return [seen[n].id if n < len(seen) else UNKNOWN for n in orders]

    def entry(self, stream: str, order: int) -> Entry:
        """The entry itself."""
        seen = self.entries.get(stream, [])
        return seen[order] if order < len(seen) else Entry(stream, UNKNOWN, wire.encode(Cancel("unknown")))

    def _order(self, entry: Entry) -> int:
        seen = self.entries.setdefault(entry.stream, [])
        known = next((n for n, one in enumerate(seen) if one.id == entry.id), None)
        if known is None:
            seen.append(entry)
        return len(seen) - 1 if known is None else known


def read(data: bytes) -> str:
    """A message as text, without the offset of a span's clock. Logprobs may travel as whole numbers."""
    message = wire.decode(data)
    if isinstance(message, Span):
        message = replace(message, offset_us=0)
    return repr(message)


Command = Callable[[Side], Awaitable[Any]]


class Commands:
    """Draws commands with their arguments. Each public method draws one kind."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = 0
        self._lengths = dict.fromkeys(SESSIONS, len(PROMPT))  # as the commits answered
        self._kinds = [getattr(self, name) for name in sorted(vars(Commands)) if name[0] != "_"]

    def __iter__(self) -> Any:
        """Every kind once, and then random kinds without end. Commits have the most rules and come most often."""
        yield from (kind() for kind in self._random.sample(self._kinds, len(self._kinds)))
        while True:
            yield self._random.choice([*self._kinds, *[self.commit] * 8, *[self.read_group] * 3])()

    # --- streams ------------------------------------------------------------------------------------
    def push(self) -> Command:
        stream, message = self._pick(WORK), self._cancel()
        return lambda side: side.broker.streams.push(stream, message)

    def push_many(self) -> Command:
        stream, messages = self._pick(WORK), [self._cancel() for _ in range(self._random.randrange(4))]
        return lambda side: side.broker.streams.push_many(stream, messages)

    def send(self) -> Command:
        inbox, message = self._pick(INBOXES[:3]), self._cancel()
        return lambda side: side.broker.streams.send(inbox, message)

    def make_groups(self) -> Command:
        streams = self._random.sample(WORK, self._random.randrange(3))
        return lambda side: side.broker.streams.make_groups(streams)

    def read_pending(self) -> Command:
        stream, consumer, count = self._pick(WORK), self._pick("ab"), self._random.randrange(1, 5)
        return lambda side: side.broker.streams.read_pending([stream], consumer, count)

    def read_group(self) -> Command:
        streams = self._random.sample(WORK, self._random.randrange(1, 4))
        consumer, count = self._pick("ab"), self._random.randrange(1, 5)
        return lambda side: side.broker.streams.read_group(streams, consumer, count, 0)

    def read_inbox(self) -> Command:
        inbox, order = self._pick(INBOXES), self._random.randrange(20)

        async def act(side: Side) -> Any:
            known = order < len(side.entries.get(inbox, []))
            after = side.ids(inbox, [order])[0] if known else "0"
            return await side.broker.streams.read_inbox(inbox, after, 9, 0)

        return act

    def ack(self) -> Command:
        stream, orders = self._pick(WORK), self._orders()
        return lambda side: side.broker.streams.ack(stream, side.ids(stream, orders))

    def dead_letter(self) -> Command:
        stream, order = self._pick(WORK), self._random.randrange(12)
        return lambda side: side.broker.streams.dead_letter(side.entry(stream, order), "a test")

    def length(self) -> Command:
        stream = self._pick((*WORK, *INBOXES))
        return lambda side: side.broker.streams.length(stream)

    def trace(self) -> Command:
        spans = [self._span() for _ in range(self._random.randrange(1, 3))]
        return lambda side: side.broker.streams.trace(spans)

    # --- session logs -------------------------------------------------------------------------------
    def submit(self) -> Command:
        spec = spec_of(self._pick(SESSIONS), deadline_ms=DEADLINE_MS)
        return lambda side: side.broker.sessions.submit(spec, submit_of(spec))

    def load(self) -> Command:
        session = self._pick(SESSIONS)
        return lambda side: side.broker.sessions.load(session)

    def head(self) -> Command:
        session = self._pick(SESSIONS)
        return lambda side: side.broker.sessions.head(session)

    def live(self) -> Command:
        return lambda side: side.broker.sessions.live()

    def place(self) -> Command:
        session, epoch, device = self._pick(SESSIONS), self._epoch(), self._pick(DEVICES)
        return lambda side: side.broker.sessions.place(session, epoch, "v", device)

    def open(self) -> Command:
        device, message = self._pick(DEVICES[:2]), Open(self._pick(SESSIONS), self._epoch(), 4)
        return lambda side: side.broker.sessions.open(device, message)

    def end(self) -> Command:
        session, finish = self._pick(SESSIONS), self._pick(("cancel", "deadline", ""))
        close = Close(session, self._epoch(), finish)
        verifier, device, gateway = self._pick(("v", "")), self._pick(DEVICES), self._pick(GATEWAYS)
        if self._random.random() < 0.8:  # else few logs would grow
            session = "s3"
            close = replace(close, session=session)
        return lambda side: side.broker.sessions.end(session, close, verifier, device, gateway)

    def commit(self) -> Command:
        rows = [self._row() for _ in range(self._random.randrange(1, 4))]
        verifier, order = self._pick("vw"), self._pick((None, *range(8)))
        stream = KEYS.staged(verifier)

        async def act(side: Side) -> Any:
            entry = "" if order is None else side.ids(stream, [order])[0]
            outcomes = await side.broker.sessions.commit(verifier, entry, rows)
            for row, outcome in zip(rows, outcomes, strict=True):
                self._lengths[row.verdict.session] = outcome.length or len(PROMPT)
            return outcomes

        return act

    # --- lease --------------------------------------------------------------------------------------
    def acquire(self) -> Command:
        holder = self._pick(HOLDERS)

        async def act(side: Side) -> bool:
            term = await side.broker.lease.acquire(holder, TTL_S)
            assert term == 0 or term > side.terms[-1]
            side.terms += [term] if term else []
            return term > 0

        return act

    def renew(self) -> Command:
        holder, back = self._pick(HOLDERS), self._random.randrange(3)
        return lambda side: side.broker.lease.renew(holder, side.terms[-1 - back % len(side.terms)], TTL_S)

    def release(self) -> Command:
        holder, back = self._pick(HOLDERS), self._random.randrange(3)
        return lambda side: side.broker.lease.release(holder, side.terms[-1 - back % len(side.terms)])

    def stage(self) -> Command:
        holder, verifier, orders = self._pick(HOLDERS), self._pick("vw"), self._orders()
        batch = StagedBatch(1, self._next(), ())
        return lambda side: side.broker.lease.stage(verifier, batch, side.ids(KEYS.draft, orders), holder)

    # --- presence and records -----------------------------------------------------------------------
    def next_generation(self) -> Command:
        async def act(side: Side) -> bool:
            before, side.generation = side.generation, await side.broker.presence.next_generation()
            return side.generation > before

        return act

    def beat(self) -> Command:
        heartbeat = Heartbeat(self._pick(ROLES), self._pick(NAMES), self._random.randrange(1, 4))
        return lambda side: side.broker.presence.beat(replace(heartbeat, load=self._number), TTL_S)

    def leave(self) -> Command:
        role, name, generation = self._pick(ROLES), self._pick(NAMES), self._random.randrange(1, 4)
        return lambda side: side.broker.presence.leave(role, name, generation)

    def alive(self) -> Command:
        role = self._pick(ROLES)

        async def act(side: Side) -> Any:
            return sorted(await side.broker.presence.alive(role), key=lambda beat: beat.name)

        return act

    def enlist(self) -> Command:
        expiries = {name: self._pick((0, 1)) for name in (*NAMES, "unknown")}
        return lambda side: side.broker.presence.enlist(expiries)

    def put(self) -> Command:
        key, fields = self._pick((KEYS.deployment, KEYS.policy)), self._pick(({}, {"a": "b"}, {"c": "é"}))
        return lambda side: side.broker.records.put(key, fields)

    def get(self) -> Command:
        key = self._pick((KEYS.deployment, KEYS.policy))
        return lambda side: side.broker.records.get(key)

    def run_id(self) -> Command:
        async def act(side: Side) -> bool:
            return await side.broker.run_id() == await side.broker.run_id()

        return act

    # --- arguments ----------------------------------------------------------------------------------
    def _pick(self, values: Sequence[Any]) -> Any:
        return self._random.choice(values)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _cancel(self) -> Cancel | Draft:
        number = self._next()
        return self._pick((Cancel(f"c{number}"), Draft("s0", 1, number, 4, "pi:1", (5, 6), bytes(2))))

    def _span(self) -> Span:
        return Span("verifier", "v", "s0", 0, 0, "verify", 1, 2, self._next(), 0)

    def _epoch(self) -> int:
        return int(self._pick((0, 0, 0, 0, 1, 2)))

    def _orders(self) -> list[int]:
        return self._random.sample(range(12), self._random.randrange(4))

    def _row(self) -> CommitRow:
        session = self._pick(SESSIONS)
        length = self._lengths[session]
        base_len = max(0, length + self._pick((0, 0, 0, 0, 0, -1, -9, -99, 1)))
        tokens = tuple(self._random.randrange(100) for _ in range(self._pick((0, 1, 2, 3, 40))))
        status: Status = self._pick(("ok", "ok", "ok", "ok", "ok", "prefilled", "stale", "error"))
        finish: Finish = self._pick(("", "", "", "", "", "stop")) if session == "s3" else ""
        logprobs = tuple((-1.0 - t, (t, 1), (-0.5, -0.1)) for t in tokens) if self._pick((0, 1)) else ()
        verdict = Verdict(
            session=session,
            epoch=self._epoch(),
            round=self._next(),
            base_len=base_len,
            tokens=tokens,
            length=base_len + len(tokens),
            logprobs=logprobs,
            drafted=4,
            accepted=2,
            next_k=self._pick((0, 0, 3)),
            stop_below=self._pick((0, 77)),
            fused_drafted=self._pick((0, 5)),
            fused_accepted=self._pick((0, 1)),
            finish=finish,
            status=status,
            message="why" if status == "error" else "",
            keeps=self._pick((False, False, True)),
            tree=self._pick((0, 0, base_len + len(tokens))),
        )
        return CommitRow(verdict, self._pick(DEVICES), self._pick(GATEWAYS))


async def answer_of(side: Side, command: Command) -> Any:
    """The comparable answer of a command, or its error."""
    try:
        return side.comparable(await command(side))
    except (BrokerFull, LeaseLost, UnknownSession, ValueError) as error:
        return type(error).__name__, str(error)
