"""All messages of the protocol.

Positions are absolute: position 0 is the prompt's first token. `base_len` is the number of tokens (prompt and
committed) on which a message builds, so it is also the position of the first token that the message adds. Durations are
in microseconds on the sender's clock. Clock readings are not compared between processes; spans carry an offset for
that. `round` is for tracing only. An *address* is "name:generation", one incarnation of a process; the broker gives out
generations in increasing order.
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
Temperature = Annotated[float, Field(strict=True, ge=0, le=limits.MAX_TEMPERATURE)]
DraftLength = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_DRAFT)]
Drafted = Annotated[tuple[Token, ...], Field(max_length=limits.MAX_DRAFT)]
SurvivalByte = Annotated[int, Field(strict=True, ge=0, le=255)]  # in 255ths, see speculative/survival.py
Survivals = Annotated[bytes, Field(strict=True, max_length=limits.MAX_DRAFT)]
Flag = Annotated[bool, Field(strict=True)]
Node = Annotated[int, Field(strict=True, ge=-1, le=limits.MAX_POSITION)]  # of a tree; -1 = its root, or none
Parents = Annotated[tuple[Node, ...], Field(max_length=limits.MAX_DRAFT)]
Tokens = Annotated[tuple[Token, ...], Field(max_length=limits.MAX_POSITION)]
Text = Annotated[str, Field(strict=True, max_length=2048)]

Finish = Literal["", "stop", "length", "deadline", "cancel", "error"]  # "" = not finished
Status = Literal["ok", "prefilled", "need_prefill", "no_pages", "stale", "error"]
ResyncReason = Literal["ready", "lost", "gap", "no_capacity", "gone", "silent"]
TreeSource = Literal["", "core", "device"]  # who grows a tree; "" = nobody
Role = Literal["gateway", "scheduler", "draft_worker", "verifier"]

# Log-probabilities of one token: (its own, ids of the most likely tokens, their log-probabilities).
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
    SHARE = 14


@dataclass(frozen=True, slots=True)
class Submit:
    """Gateway → scheduler: serve the session, whose log is written. The log has the tokens; these are its counters."""

    session: SessionId
    prompt_len: Position
    max_tokens: Position
    deadline_ms: Counter  # remaining
    gateway: Address
    device: Name = ""  # the only device that may draft; "" = any
    temperature: Temperature = 0.0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Gateway → scheduler: end the session, because nobody reads it (disconnect, stop string, broker was away)."""

    session: SessionId
    reason: Finish = "cancel"


@dataclass(frozen=True, slots=True)
class Control:
    """Gateway (admin) → scheduler: change the policy from each session's next round on.

    verifier_threads, draft_threads: 0 = unchanged; other values are passed on as `Tune`. window: controller of draft
    lengths, "none" = the policy itself, "" = unchanged. bandwidth: how radio cells are shared, see
    planning/bandwidth_rules.py, "" = unchanged.
    """

    policy: Name
    k: DraftLength = 0  # 0 = the policy's own
    verifier_threads: Annotated[int, Field(strict=True, ge=0, le=1024)] = 0
    draft_threads: Annotated[int, Field(strict=True, ge=0, le=1024)] = 0
    window: Annotated[str, Field(strict=True, max_length=64)] = ""
    bandwidth: Annotated[str, Field(strict=True, max_length=64)] = ""


@dataclass(frozen=True, slots=True)
class Open:
    """Scheduler → device: prefill and draft for this session. `Verdict`s follow.

    The broker fills in the last two fields from the session's log, because a device may not read logs and the scheduler
    holds no tokens.
    """

    session: SessionId
    epoch: Counter
    base_len: Position  # committed length as the scheduler knew it
    trees: Flag = False  # its drafts may be trees
    spec: Annotated[bytes, Field(strict=True, max_length=limits.MAX_MESSAGE_BYTES)] = b""  # see session.py
    committed: Tokens = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """Device → scheduler: tokens drafted after base_len. Who was told next_k > 0 answers, with no tokens if need be.

    survival: one byte per token, how likely the device thinks it that this token and those before it are accepted.
    parents: () = a chain; else parents[i] < i, -1 = root.

    first_node >= 0: further nodes of the tree that hangs from base_len and that the verifier keeps (`Verdict.tree`).
    Their numbers are first_node, first_node + 1, …, from 0 on in each tree. parents: numbers of that tree, each below
    the node's own, -1 = the tree's first root; nodes of one parent stand side by side in one message. survival: of each
    node, given that its parent is the target's.
    """

    session: SessionId
    epoch: Counter
    round: Counter
    base_len: Position
    device: Address
    tokens: Drafted
    survival: Survivals
    parents: Parents = ()
    draft_us: Micros = 0  # compute time
    wait_us: Micros = 0  # from the verdict's arrival to the start of drafting
    first_node: Node = -1


@dataclass(frozen=True, slots=True)
class Resync:
    """Device → scheduler: state of a session at the device.

    reason: ready (the cache holds base_len tokens), lost or gap (send Open again), no_capacity, gone (the device is
    draining), silent (no message for a while: send Close unless the session is still this device's).
    """

    session: SessionId
    epoch: Counter
    device: Address
    base_len: Position
    reason: ResyncReason


@dataclass(frozen=True, slots=True)
class StagedRow:
    """One session's row of a batch.

    The verifier feeds the committed tokens that it has not cached, up to `feed_to`, and then the draft. With feed_to ==
    base_len it samples and commits; a smaller feed_to is a chunk of prefill or rebuild, with the status `prefilled`.
    next_k, stop_below, siblings: the device's next draft, copied into the verdict. free: most tokens that the verifier
    may draft itself and add to a row without a draft. tree: the verifier may keep the session and go on with draft
    trees, its own or the device's, if it has stages to fill; "" = it may not.
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
    stop_below: SurvivalByte = 0
    free: DraftLength = 0
    tree: TreeSource = ""
    siblings: DraftLength = 0


@dataclass(frozen=True, slots=True)
class Grown:
    """Nodes of a device's tree for a session that the verifier keeps. tree: where it hangs; the rest as in `Draft`."""

    session: SessionId
    epoch: Counter
    tree: Position
    first_node: Node
    tokens: Drafted
    parents: Parents
    survival: Survivals


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """Scheduler → verifier: rows of one forward pass. term: of the scheduler's lease; lower terms are refused.

    grown: nodes for sessions that the verifier keeps, in a batch without rows. They get no verdict of their own.
    """

    term: Counter
    batch: Counter
    rows: Annotated[tuple[StagedRow, ...], Field(max_length=limits.MAX_ROWS)]
    grown: Annotated[tuple[Grown, ...], Field(max_length=limits.MAX_ROWS)] = ()


@dataclass(frozen=True, slots=True)
class Close:
    """Scheduler → device, verifier, gateway: the session has ended or moved away; free its memory."""

    session: SessionId
    epoch: Counter
    finish: Finish
    message: Text = ""  # for the client, when finish == "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verifier → device, scheduler (without tokens), gateway (with logprobs): result of a row.

    status ok: `tokens` (including the corrected or bonus token) are committed from base_len on, and length == base_len
    + len(tokens). prefilled, need_prefill: cached_len is the number of cached tokens. no_pages, stale, error: the row
    was not run; `message` has the reason. The device drafts next_k tokens, but none after one whose survival is below
    stop_below; 0 = it drafts them all. A device whose session was opened with `trees` may draft a tree in next_k
    decodes, of at most next_k + siblings nodes. straight: accepted nodes before the first that is not the first child
    of its parent in the draft; of a chain, all. drafted, accepted: of the device's draft; fused_drafted,
    fused_accepted: of the verifier's own. pass_fused: tokens of the latter in the whole pass. keeps: the verifier has
    the next move, and more verdicts follow; any row that is staged for the session takes it back. tree: the device
    grows the tree that hangs from this committed length, and sends its nodes as it finds them (`Draft.first_node`); 0 =
    it does not.
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
    stop_below: SurvivalByte = 0
    finish: Finish = ""
    status: Status = "ok"
    cached_len: Position = 0
    batch: Counter = 0
    queue_us: Micros = 0  # from reading the batch to its forward pass
    verify_us: Micros = 0  # the forward pass, including the acceptance rule
    message: Text = ""
    fused_drafted: DraftLength = 0
    fused_accepted: DraftLength = 0
    pass_fused: Counter = 0
    keeps: Flag = False
    tree: Position = 0
    siblings: DraftLength = 0
    straight: DraftLength = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Every process → broker, with an expiry: the process is alive. Measurements are of this incarnation.

    A device in a radio cell names the `cell` and its rate there for each unit of the band, eta: bit/s/Hz, or a factor.
    payload_bits: what its drafts carry with each token beside the id.
    """

    role: Role
    name: Name
    generation: Counter
    vocabulary: Annotated[str, Field(strict=True, max_length=64)] = (
        ""  # hash, see vocabulary.py; "" = the process has no model
    )
    capacity: Counter = 0  # sessions (device) or KV tokens (verifier)
    load: Counter = 0  # part of the capacity in use
    draft_us_per_token: Micros = 0
    rtt_us: Micros = 0  # one round trip to the broker
    stamp_us: Counter = 0  # sender's monotonic clock; only comparable with other stamps of the same sender
    busy_us: Counter = 0  # compute time since the process started
    passes: Counter = 1  # that may be under way at a time (verifier)
    trees: Flag = (
        False  # it grows draft trees: a device, or a verifier with a drafter of its own for its stages
    )
    cell: Name = ""
    eta: Annotated[float, Field(strict=True, allow_inf_nan=True)] = 0.0
    payload_bits: Counter = 0
    detail: Text = ""  # for users: model name, backend


@dataclass(frozen=True, slots=True)
class Tune:
    """Scheduler → verifier, device: use this many compute threads."""

    threads: Annotated[int, Field(strict=True, ge=1, le=1024)]


@dataclass(frozen=True, slots=True)
class Share:
    """Scheduler → device: what it may carry through its cell from now on, both directions together."""

    bits_s: Annotated[int, Field(strict=True, ge=1, le=limits.MAX_RATE_BITS_S)]


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Scheduler → device: exit permanently. why: the reason, for the device's user."""

    why: Text


@dataclass(frozen=True, slots=True)
class Span:
    """One bar of a timeline (OUTRIDER_TRACE=1).

    start_us, end_us: on the sender's monotonic clock. offset_us: added to these gives the broker's clock.
    """

    role: Role
    name: Name
    session: Annotated[str, Field(strict=True, max_length=64)]
    epoch: Counter
    round: Counter
    kind: Literal["draft", "link", "wait", "verify", "idle"]
    start_us: Counter
    end_us: Counter
    step: Counter  # number of the verifier's batch; 0 in spans of other kinds
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
    | Share
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
    Tag.SHARE: Share,
}
