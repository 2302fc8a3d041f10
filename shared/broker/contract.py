"""The broker's contract: streams, session logs, lease, presence and records. One contract suite tests every broker.

Every method may raise BrokerAway. A call that raised or was cancelled may have taken effect. A message may be
delivered twice, late or never. Absolute positions and the session log make that harmless.

A broker whose memory is full refuses new sessions (`submit`), records and spans with BrokerFull. Everything that
present sessions need to go on and to end still works, and their end frees memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from shared.protocol.messages import Close, Heartbeat, Message, Open, Role, Span, StagedBatch, Submit, Verdict
from shared.protocol.session import SessionHead, SessionLog, SessionSpec


class BrokerAway(ConnectionError):
    """The broker cannot be reached, or did not answer in time."""


class BrokerDenied(RuntimeError):
    """The broker rejects this process's credential, or its user may not do this."""


class BrokerFull(RuntimeError):
    """A work stream is at its bound, or the broker's memory is full; nothing was added. The client gets a 503."""


class LeaseLost(RuntimeError):
    """Another holder has the lease, or a newer generation has the name."""


class UnknownSession(KeyError):
    """No such session log: never submitted, expired, or the broker lost its data."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stream entry, undecoded. Its bytes are hostile until `wire.decode` has checked them."""

    stream: str
    id: str
    data: bytes
    deliveries: int = 1  # > 1 when read from this reader's pending entries


@dataclass(frozen=True, slots=True)
class CommitRow:
    """One row of `commit`. The verdict holds tokens and logprobs; the broker makes its three copies.

    A verdict with status "ok" commits. Any other goes only to the scheduler. device and gateway are addresses
    ("" = none).
    """

    verdict: Verdict
    device: str
    gateway: str


Outcome = Literal["committed", "answered", "stale", "ahead", "unknown", "told"]


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    """The result of one row.

    committed: appended. answered: base_len was behind or the session had finished, and the log's tokens from
    base_len on were sent again. stale: of an older epoch, dropped. ahead: base_len or epoch was beyond the log, and
    an error verdict was sent to the scheduler. unknown: there is no such log, dropped. told: the row was not "ok",
    and its verdict was forwarded to the scheduler.
    """

    outcome: Outcome
    length: int  # committed length of the session after the commit, 0 when unknown


class Streams(Protocol):
    """Work streams (read by a consumer group, bounded by refusal), inboxes (capped, expiring) and the trace stream."""

    async def push(self, stream: str, message: Message) -> None:
        """Add to a work stream. Raises BrokerFull at its bound."""
        ...

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int:
        """Add to a work stream, in order and at once, as many messages as it has room for. Returns their number."""
        ...

    async def send(self, inbox: str, message: Message) -> None:
        """Add to an inbox or reply stream."""
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
        """New entries of work streams, at most `count` of each; waits up to block_s. [] on time-out.

        After BrokerAway or a cancellation, entries may be pending that no reader got; `read_pending` returns them. A
        missing group (lost data) is created again, from the start of the stream.
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

    async def trace(self, spans: Sequence[Span]) -> None:
        """Append spans to the capped trace stream, with the offset of our clock that heartbeats have measured.

        A broker whose memory is full drops them and raises nothing.
        """
        ...


class SessionLogs(Protocol):
    """The session logs: prompt, parameters, epoch, placement and committed tokens of each session."""

    async def submit(self, spec: SessionSpec, message: Submit) -> bool:
        """Create the log, mark it live, add Submit: one script. False when the log existed (a no-op).

        The log expires LOG_KEPT_S after its deadline, whatever happens. Raises BrokerFull when the submit stream is
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

    async def open(self, device: str, message: Open) -> bool:
        """Send an Open to a device (an address), with the session's log in it. False when there is no such log.

        A log that does not fit a message is not sent, so the device never becomes ready for the session.
        """
        ...

    async def end(self, session: str, close: Close, verifier: str, device: str, gateway: str) -> bool:
        """Finish a session: set finish (unless set), leave the live set, let the log expire, send Close.

        Close goes to the verifier, device and gateway that are not "". It is sent even when the session was not live
        (it is idempotent); False is returned then. A verifier's stream that is at its bound gets no Close: the
        verifier evicts a closed session's pages when it needs them. ValueError when close has no finish.
        """
        ...

    async def commit(self, verifier: str, entry_id: str, rows: Sequence[CommitRow]) -> list[CommitOutcome]:
        """The whole answer to one staged batch, in one script: all of it or nothing.

        Per row with status ok, if the log's epoch and committed length equal (epoch, base_len) and it has
        not finished: append tokens and logprobs, then add the verdict to the device's inbox (no logprobs),
        the gateway's reply and the scheduler's verdicts (no tokens, no logprobs). A verdict with a finish
        ends the session as `end` does. Otherwise see CommitOutcome. Last, acknowledge and delete the entry;
        entry_id "" = none. An answer beyond MAX_MESSAGE_BYTES states the length and no tokens: a gap, whose
        reader loads the log. ValueError when an ok row's length or logprobs do not fit its tokens.
        """
        ...


class Lease(Protocol):
    """The lease of the active scheduler, and the write that it fences."""

    async def acquire(self, holder: str, ttl_s: float) -> int:
        """Become the active scheduler. Returns the new term, 0 when another holder has the lease.

        Terms grow, over a loss of data too. A holder that acquires again gets a new term.
        """
        ...

    async def renew(self, holder: str, term: int, ttl_s: float) -> bool:
        """Extend the lease. False when it was lost."""
        ...

    async def release(self, holder: str, term: int) -> None:
        """Release the lease if it is still this holder's."""
        ...

    async def stage(self, verifier: str, batch: StagedBatch, drafts: Sequence[str], holder: str) -> None:
        """Add a batch for a verifier and acknowledge its drafts (entry ids of the draft stream): one script.

        Raises LeaseLost when `holder` is not the lease's holder, BrokerFull at the stream's bound.
        """
        ...


class Heartbeats(Protocol):
    """Which processes are alive, and the generations that tell their incarnations apart."""

    async def next_generation(self) -> int:
        """A number higher than any given before, over a loss of data too (it starts at the broker's clock)."""
        ...

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        """Write a heartbeat. Raises LeaseLost when a higher generation has the name.

        Also keeps the process's own stream from expiring, and compares the broker's clock with ours.
        """
        ...

    async def leave(self, role: Role, name: str, generation: int) -> None:
        """Delete the heartbeat of this incarnation, so that the process is not listed as alive any more."""
        ...

    async def alive(self, role: Role) -> list[Heartbeat]:
        """Heartbeats that have not expired, without undecodable ones."""
        ...

    async def enlist(self, expiries: Mapping[str, int]) -> list[str]:
        """List those of these draft workers that are alive, since devices with their own credential may not.

        expiries: by name, when the credential expires, in milliseconds of the broker's clock; 0 = never. Returns the
        addresses of live devices whose credential has expired; `alive` does not return them any more.
        """
        ...


class Records(Protocol):
    """Small hashes of text: the deployment, the policy."""

    async def put(self, key: str, fields: Mapping[str, str]) -> None:
        """Replace a record. Raises BrokerFull when the broker's memory is full."""
        ...

    async def get(self, key: str) -> dict[str, str]:
        """Read a record; {} when there is none."""
        ...


class Broker(Protocol):
    """One process's connection to the broker."""

    @property
    def streams(self) -> Streams:
        """Work streams, inboxes, trace."""
        ...

    @property
    def sessions(self) -> SessionLogs:
        """Session logs."""
        ...

    @property
    def lease(self) -> Lease:
        """The scheduler's lease."""
        ...

    @property
    def presence(self) -> Heartbeats:
        """Heartbeats and generations."""
        ...

    @property
    def records(self) -> Records:
        """Deployment and policy."""
        ...

    async def run_id(self) -> str:
        """Identity of the broker's data. Another one means that all data was lost."""
        ...

    async def ping(self) -> float:
        """One round trip, in seconds."""
        ...

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        ...
