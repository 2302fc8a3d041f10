"""Every message of the protocol, read here without meeting a socket.

Positions are absolute: position 0 is the prompt's first token, and `base_len` is the number of tokens
(prompt and committed) a message builds on, so it is also the position of the first token it adds.
Durations are microseconds on the sender's own clock; no clock reading travels, except a sender's own
stamp that is echoed back to it. `round` is for tracing only. An *address* is "name:generation": one
incarnation of a process, whose generation the broker hands out in growing order.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field

from shared.protocol import limits

SessionId = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_.-]{0,64}$")]  # "" = none
Address = Annotated[str, Field(strict=True, pattern=r"^([A-Za-z0-9_.-]{1,64}:[0-9]{1,15})?$")]  # "" = none
Token = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_TOKEN_ID)]
Position = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_POSITION)]
Counter = Annotated[int, Field(strict=True, ge=0, le=(1 << 53) - 1)]
Micros = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_DURATION_US)]
DraftLength = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_DRAFT)]
Drafted = Annotated[tuple[Token, ...], Field(max_length=limits.MAX_DRAFT)]
Parent = Annotated[int, Field(strict=True, ge=-1, lt=limits.MAX_DRAFT)]
Parents = Annotated[tuple[Parent, ...], Field(max_length=limits.MAX_DRAFT)]
Tokens = Annotated[tuple[Token, ...], Field(max_length=limits.MAX_POSITION)]
Text = Annotated[str, Field(strict=True, max_length=2048)]

Finish = Literal["", "stop", "length", "deadline", "cancel", "error"]  # "" = goes on
Status = Literal["ok", "prefilled", "need_prefill", "no_pages", "stale", "error"]
ResyncReason = Literal["ready", "lost", "gap", "no_capacity", "gone", "silent"]
Role = Literal["gateway", "scheduler", "draft_worker", "verifier"]

# One token's log-probabilities: (its own, ids of the likeliest, their log-probabilities).
TopIds = Annotated[tuple[Token, ...], Field(max_length=limits.MAX_TOP_LOGPROBS)]
Logprob = Annotated[float, Field(strict=True, allow_inf_nan=True)]
TopValues = Annotated[tuple[Logprob, ...], Field(max_length=limits.MAX_TOP_LOGPROBS)]
TokenLogprobs = tuple[Logprob, TopIds, TopValues]


class Tag(IntEnum):
    """First element of a message's array."""

    SUBMIT = 1
    CANCEL = 2
    CONTROL = 3
    OPEN = 4
    DRAFT = 5
    RESYNC = 6
    STAGED = 7
    CLOSE = 8
    VERDICT = 9
    HEARTBEAT = 10
    TUNE = 11
    SPAN = 12
    DISMISS = 13


@dataclass(frozen=True, slots=True)
class Submit:
    """Gateway → scheduler: a session log exists, serve it. The log holds the tokens; these are its counters."""

    session: SessionId
    prompt_len: Position
    max_tokens: Position
    deadline_ms: Counter  # remaining
    gateway: Address
    device: Name = ""  # the device asked for, "" = any


@dataclass(frozen=True, slots=True)
class Cancel:
    """Gateway → scheduler: nobody reads this session any more (disconnect, stop string, broker was away)."""

    session: SessionId
    reason: Finish = "cancel"


@dataclass(frozen=True, slots=True)
class Control:
    """Gateway (admin) → scheduler: change the policy from each session's next round on.

    verifier_threads, draft_threads: 0 leaves them as they are; otherwise passed on as `Tune`.
    """

    policy: Name
    k: DraftLength = 0  # 0 = the policy's own
    verifier_threads: Annotated[int, Field(strict=True, ge=0, le=1024)] = 0
    draft_threads: Annotated[int, Field(strict=True, ge=0, le=1024)] = 0


@dataclass(frozen=True, slots=True)
class Open:
    """Scheduler → device: you draft for this session; prefill. You get `Verdict`s from now on.

    The broker puts the session's log in (its last two fields, always): a device may read no log itself, and the
    scheduler holds no tokens.
    """

    session: SessionId
    epoch: Counter
    base_len: Position  # committed length as the scheduler knew it
    spec: Annotated[bytes, Field(strict=True, max_length=limits.MAX_MESSAGE_BYTES)] = b""  # see session.py
    committed: Tokens = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """Device → scheduler: tokens proposed after base_len. parents empty = a chain; else parents[i] < i, -1 = root."""

    session: SessionId
    epoch: Counter
    round: Counter
    base_len: Position
    device: Address
    tokens: Drafted
    parents: Parents = ()
    draft_us: Micros = 0  # computing
    wait_us: Micros = 0  # from the verdict's arrival to the start of computing


@dataclass(frozen=True, slots=True)
class Resync:
    """Device → scheduler: ready (caught up to base_len), lost/gap (open me again), no_capacity, gone (draining),
    silent (nobody spoke of it for a while: close it unless it is still mine)."""

    session: SessionId
    epoch: Counter
    device: Address
    base_len: Position
    reason: ResyncReason


@dataclass(frozen=True, slots=True)
class StagedRow:
    """One session's part of a batch.

    The verifier feeds the committed tokens it has not cached up to `feed_to`, then the draft. With
    feed_to == base_len it samples and commits; a smaller feed_to is a chunk of prefill or rebuild, answered
    `prefilled`. next_k is copied into the verdict: how far the device drafts next.
    """

    session: SessionId
    epoch: Counter
    round: Counter
    base_len: Position
    feed_to: Position
    next_k: DraftLength
    device: Address
    gateway: Address
    tokens: Drafted = ()
    parents: Parents = ()


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """Scheduler → verifier: one forward pass. term: of the scheduler's lease, a lower one is refused."""

    term: Counter
    batch: Counter
    rows: Annotated[tuple[StagedRow, ...], Field(max_length=limits.MAX_ROWS)]


@dataclass(frozen=True, slots=True)
class Close:
    """Scheduler → device, verifier, gateway: the session has ended or left you; free what you hold for it."""

    session: SessionId
    epoch: Counter
    finish: Finish
    message: Text = ""  # for the client, when finish == "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verifier → device, scheduler (without tokens), gateway (with logprobs): what was committed.

    status ok: `tokens` (corrected or bonus included) stand from base_len on, and length == base_len +
    len(tokens) as committed. prefilled / need_prefill: cached_len tells how much of the session is cached.
    no_pages, stale, error: the row was not run; `message` says why.
    """

    session: SessionId
    epoch: Counter
    round: Counter
    base_len: Position
    tokens: Tokens
    length: Position  # committed length after this verdict
    logprobs: Annotated[tuple[TokenLogprobs, ...], Field(max_length=limits.MAX_POSITION)] = ()
    drafted: DraftLength = 0
    accepted: DraftLength = 0
    next_k: DraftLength = 0
    finish: Finish = ""
    status: Status = "ok"
    cached_len: Position = 0
    batch: Counter = 0
    queue_us: Micros = 0  # from reading the batch to its forward pass
    verify_us: Micros = 0  # the forward pass, rule included
    message: Text = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Every process → broker, with an expiry. Figures are this incarnation's own measurements."""

    role: Role
    name: Name
    generation: Counter
    vocabulary: Annotated[str, Field(strict=True, max_length=64)] = (
        ""  # hash, see vocabulary.py; "" = holds no model
    )
    capacity: Counter = 0  # sessions (device) or KV tokens (verifier)
    load: Counter = 0  # of them in use
    draft_us_per_token: Micros = 0
    rtt_us: Micros = 0  # one round trip to the broker
    stamp_us: Counter = 0  # sender's monotonic clock: only differences of one sender's stamps mean anything
    busy_us: Counter = 0  # computing since it started; over a difference of stamps: its busy share
    detail: Text = ""  # for people: model name, backend


@dataclass(frozen=True, slots=True)
class Tune:
    """Scheduler → verifier, device: use this many compute threads."""

    threads: Annotated[int, Field(strict=True, ge=1, le=1024)]


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Scheduler → device: leave, for good."""

    why: Text


@dataclass(frozen=True, slots=True)
class Span:
    """One bar of a timeline (OUTRIDER_TRACE=1). start and end: sender's monotonic clock; offset: to the broker's."""

    role: Role
    name: Name
    session: Annotated[str, Field(strict=True, max_length=64)]
    epoch: Counter
    round: Counter
    kind: Literal["draft", "link", "wait", "verify", "idle"]
    start_us: Counter
    end_us: Counter
    step: Counter  # verifier batch, 0 elsewhere
    offset_us: Annotated[int, Field(strict=True)]


Message = (
    Submit
    | Cancel
    | Control
    | Open
    | Draft
    | Resync
    | StagedBatch
    | Close
    | Verdict
    | Heartbeat
    | Tune
    | Span
    | Dismiss
)

MESSAGE_TYPES: dict[Tag, type[Message]] = {
    Tag.SUBMIT: Submit,
    Tag.CANCEL: Cancel,
    Tag.CONTROL: Control,
    Tag.OPEN: Open,
    Tag.DRAFT: Draft,
    Tag.RESYNC: Resync,
    Tag.STAGED: StagedBatch,
    Tag.CLOSE: Close,
    Tag.VERDICT: Verdict,
    Tag.HEARTBEAT: Heartbeat,
    Tag.TUNE: Tune,
    Tag.SPAN: Span,
    Tag.DISMISS: Dismiss,
}
