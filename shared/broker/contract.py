"""What every broker does. `RedisBroker` and `MemoryBroker` pass the same contract suite.

Every method may raise BrokerAway. Any call may take effect although it raised (or was cancelled), and any
message may be delivered twice, late or never: absolute positions and the session log make that harmless.

A broker whose memory is full refuses new sessions (`submit`), hashes and spans with BrokerFull; whatever lets
the present sessions go on and end still works, which is what frees memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from shared.protocol.messages import Close, Heartbeat, Message, Open, Role, Span, StagedBatch, Submit, Verdict
from shared.protocol.session import SessionHead, SessionLog, SessionSpec

GROUP: Final = "outrider"  # consumer group of every work stream


class BrokerAway(ConnectionError):
    """The broker cannot be reached, or did not answer in time."""


class BrokerDenied(RuntimeError):
    """The broker does not know this process's credential, or does not let it do this."""


class BrokerFull(RuntimeError):
    """A work stream is at its bound, or the broker's memory is full; nothing was added. The client sees 503."""


class LeaseLost(RuntimeError):
    """Another scheduler is active: this one's term is not the current one."""


class UnknownSession(KeyError):
    """No such session log: never submitted, expired, or the broker lost its data."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stream entry, undecoded: bytes are hostile until `wire.decode` has seen them."""

    stream: str
    id: str
    data: bytes
    deliveries: int = 1  # > 1 when read from this reader's pending entries


@dataclass(frozen=True, slots=True)
class CommitRow:
    """One row of `commit`. `verdict` holds tokens and logprobs; the broker makes the three copies.

    A verdict with status "ok" commits; any other goes to the scheduler alone. device and gateway are
    addresses ("" = none).
    """

    verdict: Verdict
    device: str
    gateway: str


Outcome = Literal["committed", "answered", "stale", "ahead", "unknown", "told"]


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    """What became of one row.

    committed: appended. answered: base_len was behind or the session has finished, the log's own tokens
    from base_len on were sent again. stale: older epoch, dropped. ahead: base_len (or epoch) beyond the log,
    an error verdict was sent to the scheduler. unknown: no such log, dropped. told: not an "ok" row, passed
    on.
    """

    outcome: Outcome
    length: int  # committed length of the session now, 0 when unknown


class Broker(Protocol):
    """One process's connection to the broker."""

    # --- connection ---------------------------------------------------------------------------------
    async def run_id(self) -> str:
        """Identity of the broker's data: another one means that everything was lost."""
        ...

    async def ping(self) -> float:
        """One round trip, in seconds."""
        ...

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        ...

    # --- streams ------------------------------------------------------------------------------------
    async def push(self, stream: str, message: Message) -> None:
        """Add to a work stream. Raises BrokerFull at its bound."""
        ...

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int:
        """Add to a work stream as many as it has room for, in order and at once. How many that were."""
        ...

    async def send(self, inbox: str, message: Message) -> None:
        """Add to an inbox or reply stream (capped, expiring)."""
        ...

    async def open(self, device: str, message: Open) -> bool:
        """Send an Open to a device (an address), the session's log in it. False when there is no such log.

        A log that does not fit a message is not sent: the device never becomes ready.
        """
        ...

    async def make_groups(self, streams: Sequence[str]) -> None:
        """Create the consumer group (and stream) where missing, from the start of the stream. Idempotent."""
        ...

    async def read_pending(self, streams: Sequence[str], consumer: str, count: int) -> list[Entry]:
        """Entries delivered to this consumer and never acknowledged, oldest first, with their deliveries.

        Reading them counts as a delivery. Returns at most `count` per stream; [] when there are none. Without
        acknowledgement the same ones are returned again.
        """
        ...

    async def read_group(
        self, streams: Sequence[str], consumer: str, count: int, block_s: float
    ) -> list[Entry]:
        """New entries of work streams, `count` of each at most; waits up to block_s. [] on time-out.

        After BrokerAway or a cancellation entries may be pending although nobody saw them: `read_pending` finds
        them. A missing group (lost data) is made anew from the start of the stream.
        """
        ...

    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]:
        """Entries of one inbox after an id ("0" = from the start); waits up to block_s. [] on time-out."""
        ...

    async def ack(self, stream: str, ids: Sequence[str]) -> None:
        """Acknowledge and delete."""
        ...

    async def dead_letter(self, entry: Entry, reason: str) -> None:
        """Copy the first bytes to the dead stream (capped), then acknowledge and delete."""
        ...

    async def length(self, stream: str) -> int:
        """Entries in a stream, 0 when it does not exist."""
        ...

    # --- session log --------------------------------------------------------------------------------
    async def submit(self, spec: SessionSpec, message: Submit) -> bool:
        """Create the log, mark it live, add Submit: one script. False when the log existed (a no-op).

        The log goes LOG_KEPT_S after its deadline, whatever happens. Raises BrokerFull when the submit stream is
        at its bound.
        """
        ...

    async def load(self, session: str) -> SessionLog:
        """The whole log. Raises UnknownSession."""
        ...

    async def head(self, session: str) -> SessionHead:
        """The log without tokens. Raises UnknownSession."""
        ...

    async def live(self) -> set[str]:
        """Sessions submitted and not ended."""
        ...

    async def place(self, session: str, epoch: int, verifier: str, device: str) -> bool:
        """Write epoch and placement, if the log's epoch is not higher and it has not finished. False otherwise."""
        ...

    async def end(self, session: str, close: Close, verifier: str, device: str, gateway: str) -> bool:
        """Finish a session: set finish (unless set), leave the live set, let the log expire, send Close on.

        verifier "" / device "" / gateway "": nobody to tell there. False when the session was not live
        (Close is sent all the same: it is idempotent). A verifier's stream that is at its bound gets no Close:
        the verifier takes a closed session's pages when it needs them. ValueError when close has no finish.
        """
        ...

    async def commit(self, verifier: str, entry_id: str, rows: Sequence[CommitRow]) -> list[CommitOutcome]:
        """The whole answer to one staged batch, in one script: all of it or nothing.

        Per row with status ok, if the log's epoch and committed length equal (epoch, base_len) and it has
        not finished: append tokens and logprobs, then add the verdict to the device's inbox (no logprobs),
        the gateway's reply and the scheduler's verdicts (no tokens, no logprobs). A verdict with a finish
        ends the session as `end` does. Otherwise see CommitOutcome. Last, acknowledge and delete the entry.
        entry_id "" = none to acknowledge. An answer beyond MAX_MESSAGE_BYTES says (length, no tokens): a gap,
        whose reader loads the log. ValueError when an ok row's length or logprobs do not fit its tokens.
        """
        ...

    # --- scheduler ----------------------------------------------------------------------------------
    async def acquire_lease(self, holder: str, ttl_s: float) -> int:
        """Become the active scheduler. Returns the new term, 0 when another holder has it.

        Terms grow, over a loss of data too. A holder that asks again gets a new term.
        """
        ...

    async def renew_lease(self, holder: str, term: int, ttl_s: float) -> bool:
        """Keep it. False when it was lost."""
        ...

    async def release_lease(self, holder: str, term: int) -> None:
        """Give it back, if it is still ours."""
        ...

    async def stage(self, verifier: str, batch: StagedBatch, drafts: Sequence[str], holder: str) -> None:
        """Add a batch for a verifier and acknowledge the drafts (entry ids of the draft stream) in it: one script.

        Raises LeaseLost when `holder` is not the lease's holder, BrokerFull at the stream's bound.
        """
        ...

    # --- who is there -------------------------------------------------------------------------------
    async def next_generation(self) -> int:
        """A number higher than any given before, over a loss of data too (it starts at the broker's clock)."""
        ...

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        """Write a heartbeat. A lower generation never overwrites a higher one: raises LeaseLost then.

        Also keeps the process's own stream from expiring, and compares the broker's clock with ours.
        """
        ...

    async def leave(self, role: Role, name: str, generation: int) -> None:
        """Take the heartbeat of this incarnation back: it is not alive any more, and nobody waits for it to lapse."""
        ...

    async def alive(self, role: Role) -> list[Heartbeat]:
        """Heartbeats that have not lapsed; undecodable ones are left out."""
        ...

    async def enlist(self, expiries: Mapping[str, int]) -> list[str]:
        """Put the draft workers of these names that are alive among those `alive` finds: some may not themselves.

        expiries: until when, in milliseconds of the broker's clock, 0 = for ever. Returns the addresses of those that
        are alive and whose time is over; they are not found any more.
        """
        ...

    async def put(self, key: str, fields: Mapping[str, str]) -> None:
        """Replace a small hash (deployment, policy)."""
        ...

    async def get(self, key: str) -> dict[str, str]:
        """Read a small hash; {} when there is none."""
        ...

    async def trace(self, spans: Sequence[Span]) -> None:
        """Append spans to the capped trace stream, with our clock's offset as the heartbeats have shown it.

        A broker whose memory is full takes none, and nothing is raised: a timeline is no record.
        """
        ...
