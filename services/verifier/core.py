"""The verifier's rules: which rows may run, and the verdict on a row. Pure: no model, broker or clock.

A session's text is `ids`: the prompt and the committed tokens. A row with base_len == len(ids) extends it; other rows
are answered without the model. Each row is checked on its own. `step.py` applies these rules to a whole batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from shared.compute.drafter import DraftRequest
from shared.compute.target import Choices, TargetRow
from shared.protocol import limits
from shared.protocol.messages import Finish, Grown, StagedRow, Status, TokenLogprobs, Verdict
from shared.protocol.session import SessionLog, SessionSpec
from shared.speculative.rule import accept_chain, accept_tree, straight_steps


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of the target."""

    vocab: int
    max_context: int
    pool_tokens: int

    @property
    def session_tokens(self) -> int:
        """Tokens of the longest session that can be served."""
        return min(self.max_context, self.pool_tokens)


@dataclass(slots=True)
class VerifiedSession:
    """A session as its log stood at the last commit. `joined` orders sessions by their first row here.

    trusted False: a commit had an unexpected outcome, so the log is read again before the next row.
    unfit: why the target cannot serve it at all, "" when it can.
    """

    spec: SessionSpec
    epoch: int
    ids: list[int]
    finish: Finish
    joined: int
    trusted: bool = True
    unfit: str = ""

    @property
    def length(self) -> int:
        """Committed length: prompt and committed tokens."""
        return len(self.ids)

    @property
    def remaining(self) -> int:
        """Tokens the session may still emit."""
        return len(self.spec.prompt) + self.spec.max_tokens - len(self.ids)


@dataclass(frozen=True, slots=True)
class VerifiedRow:
    """The verdict on a row, and what stays cached: `keep` tokens, then the draft nodes of `path`.

    keep None: everything that was fed, since the row sampled nothing.
    """

    verdict: Verdict
    keep: int | None
    path: tuple[int, ...] = ()


def session_from_log(log: SessionLog, joined: int, bounds: Bounds) -> VerifiedSession:
    """Build a session from its log."""
    unfit = unfit_reason(log.spec, bounds)
    return VerifiedSession(log.spec, log.head.epoch, list(log.ids), log.head.finish, joined, unfit=unfit)


def unfit_reason(spec: SessionSpec, bounds: Bounds) -> str:
    """Why the target cannot serve a session, "" when it can. The gateway checks this too, but is not trusted."""
    if not spec.prompt:
        return "empty prompt"
    if len(spec.prompt) + spec.max_tokens > bounds.session_tokens:
        return f"prompt and completion exceed {bounds.session_tokens} tokens"
    if not 0 <= min(spec.prompt) <= max(spec.prompt) < bounds.vocab:
        return f"prompt token beyond the vocabulary of {bounds.vocab}"
    return ""


def needs_log(row: StagedRow, session: VerifiedSession | None) -> bool:
    """Whether the session's log may be newer than our copy."""
    return (
        session is None or not session.trusted or row.epoch > session.epoch or row.base_len > session.length
    )


def verdict_without_pass(row: StagedRow, session: VerifiedSession | None, bounds: Bounds) -> Verdict | None:
    """The answer to a row that the model need not see; None when it has to go through the model.

    A row behind the log, or of a finished session, gets an "ok" without tokens: `commit` answers it from the log.
    """
    if session is None:
        return refusal(row, "error", "unknown session")
    if row.gateway != session.spec.gateway:
        return refusal(row, "error", f"gateway {row.gateway!r} is not the session's")
    if row.epoch != session.epoch:
        return refusal(row, "stale", f"epoch {row.epoch}, the log is at {session.epoch}")
    if session.finish or (row.base_len < session.length and row.feed_to == row.base_len):
        return already_committed(row)
    wrong = session.unfit or row_error(row, session, bounds)
    return refusal(row, "error", wrong) if wrong else None


def row_error(row: StagedRow, session: VerifiedSession, bounds: Bounds) -> str:
    """What is wrong with a row; "" when it is valid."""
    if row.base_len > session.length:
        return f"base_len {row.base_len} in the future, committed {session.length}"
    if row.feed_to > row.base_len:
        return f"feed_to {row.feed_to} beyond base_len {row.base_len}"
    if len(row.tokens) > limits.MAX_DRAFT:
        return f"draft of {len(row.tokens)} tokens, at most {limits.MAX_DRAFT}"
    if row.parents and not _is_tree(row.parents, len(row.tokens)):
        return "parents do not form a tree over the draft"
    return ""


def _is_tree(parents: Sequence[int], nodes: int) -> bool:
    return len(parents) == nodes and all(-1 <= parent < i for i, parent in enumerate(parents))


def with_known_tokens(row: StagedRow, vocab: int) -> StagedRow:
    """The row with its draft cut before the first token that the target does not have; such a tree is dropped.

    Only the target knows its vocabulary, and a device must not be able to end a session with a token.
    """
    known = tuple(takewhile(lambda token: 0 <= token < vocab, row.tokens))
    if len(known) == len(row.tokens):
        return row
    return replace(row, tokens=() if row.parents else known, parents=())


def grown_error(grown: Grown, epoch: int, vocab: int) -> str:
    """What is wrong with nodes of a device's tree, for a session of this epoch; "" when nothing is."""
    count, first = len(grown.tokens), grown.first_node
    if grown.epoch != epoch:
        return f"epoch {grown.epoch}, the tree has {epoch}"
    if first < 0 or len(grown.parents) != count or len(grown.survival) != count:
        return f"{count} nodes from {first} on, with {len(grown.parents)} parents and {len(grown.survival)} survivals"
    if any(token >= vocab for token in grown.tokens):
        return f"token {max(grown.tokens)} beyond the vocabulary of {vocab}"
    if any(parent >= first + at for at, parent in enumerate(grown.parents)):
        return "a parent after its child"
    return ""


def useful_draft(row: StagedRow, session: VerifiedSession) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The usable part of a row's draft (tokens, parents): a chain is cut to one token less than may be emitted.

    So a session never needs KV beyond prompt + max_tokens. A tree that is too large is dropped.
    """
    if row.feed_to < row.base_len:
        return (), ()
    useful = session.remaining - 1  # the model's own token after the draft is committed as well
    if not row.parents:
        return row.tokens[:useful], ()
    return (row.tokens, row.parents) if len(row.tokens) <= useful else ((), ())


def core_request(row: StagedRow, session: VerifiedSession) -> DraftRequest | None:
    """What the verifier may draft itself for a row without a draft; None when it may not.

    At most `free` tokens, and one less than may be emitted.
    """
    k = min(row.free, session.remaining - 1)
    if row.tokens or k <= 0 or row.feed_to < row.base_len:
        return None
    return DraftRequest(row.session, session.ids, k, session.spec.sampling)


def target_row(
    row: StagedRow, session: VerifiedSession, cached: int, spare: int, fused: tuple[int, ...] = ()
) -> TargetRow | None:
    """The model's input for a row, given `cached` tokens and a budget of 1 + `spare` tokens.

    None: nothing to feed, or no budget left in this batch. A row that is cut short samples no token. fused: the
    verifier's own draft, for a row without one.
    """
    missing = row.feed_to - cached
    fed = min(missing, 1 + spare)
    if missing <= 0 or (fed < missing and spare == 0):
        return None
    tokens, parents = useful_draft(row, session) if fed == missing else ((), ())
    if fused and fed == missing:
        tokens = fused
    return TargetRow(
        session=row.session,
        start=cached,
        tokens=(*session.ids[cached : cached + fed], *tokens),
        committed=fed,
        choose=fed == missing and row.feed_to == row.base_len,
        sampling=session.spec.sampling,
        logprobs=session.spec.logprobs,
        parents=parents,
    )


def fed_only(row: StagedRow, cached: int) -> Verdict:
    """The answer to a row that sampled no token: a prefill chunk, or a row that needs more prefill first."""
    status: Status = "prefilled" if row.feed_to < row.base_len else "need_prefill"
    return _verdict(row, status=status, cached_len=cached)


def verify_row(row: StagedRow, session: VerifiedSession, fed: TargetRow, choices: Choices) -> VerifiedRow:
    """Apply the acceptance rule to a row's choices. The text is cut at the first stop id or at max_tokens."""
    if not fed.choose:
        return VerifiedRow(fed_only(row, fed.start + fed.committed), keep=None)
    draft = fed.tokens[fed.committed :]
    if fed.parents:
        path = tuple(accept_tree(draft, fed.parents, choices.tokens))
        kept, accepted = row.base_len, len(path)
        # Which choices are committed: the one after the root, and the one after each accepted node.
        committed_choices = [0, *(node + 1 for node in path)]
    else:
        path = ()
        accepted = accept_chain(draft, choices.tokens)
        kept = row.base_len + accepted
        committed_choices = list(range(accepted + 1))
    tokens, finish = cut([choices.tokens[i] for i in committed_choices], session)
    logprobs: tuple[TokenLogprobs, ...] = ()
    if choices.logprobs:
        logprobs = tuple(choices.logprobs[i] for i in committed_choices[: len(tokens)])
    counts = len(draft), min(accepted, len(tokens))
    straight = straight_steps(fed.parents, path) if fed.parents else counts[1]
    (drafted, right), fused = (counts, (0, 0)) if row.tokens else ((0, 0), counts)
    verdict = _verdict(
        row,
        tokens=tokens,
        logprobs=logprobs,
        drafted=drafted,
        accepted=right,
        fused=fused,
        straight=min(straight, right),
        next_k=0 if finish else row.next_k,
        stop_below=row.stop_below,
        siblings=row.siblings,
        finish=finish,
        cached_len=row.base_len + accepted,
    )
    return VerifiedRow(verdict, kept, path)


def tree_verdict(
    row: StagedRow,
    base_len: int,
    tokens: tuple[int, ...],
    logprobs: tuple[TokenLogprobs, ...],
    finish: Finish,
    counts: tuple[int, int],
    tree: int,
) -> Verdict:
    """The verdict on one step of a tree, on which the verifier goes on unless the session finishes.

    row: that opened the tree. counts: nodes (drafted, accepted). tree: where it hangs, if the device grows it, else 0.
    """
    drafted = min(counts[0], limits.MAX_DRAFT)
    counts = drafted, min(counts[1], drafted)
    (own, right), fused = (counts, (0, 0)) if tree else ((0, 0), counts)
    step = replace(row, base_len=base_len, feed_to=base_len, next_k=0, stop_below=0, siblings=0)
    return _verdict(
        step,
        tokens=tokens,
        logprobs=logprobs,
        drafted=own,
        accepted=right,
        fused=fused,
        finish=finish,
        cached_len=base_len + len(tokens) - 1,
        keeps=not finish,
        tree=0 if finish else tree,
    )


def cut(tokens: Sequence[int], session: VerifiedSession) -> tuple[tuple[int, ...], Finish]:
    """Tokens up to and including the first stop id, or up to the session's limit; and the finish ("" = none)."""
    ends = [i + 1 for i, token in enumerate(tokens) if token in session.spec.stop_ids]
    if ends and ends[0] <= session.remaining:
        return tuple(tokens[: ends[0]]), "stop"
    if len(tokens) >= session.remaining:
        return tuple(tokens[: session.remaining]), "length"
    return tuple(tokens), ""


def refusal(row: StagedRow, status: Status, message: str) -> Verdict:
    """The answer to a row that was not run. message: why."""
    return _verdict(row, status=status, message=message)


def already_committed(row: StagedRow) -> Verdict:
    """An "ok" without tokens for a row behind the log: `commit` fills in the tokens from the log."""
    return _verdict(row, next_k=row.next_k, stop_below=row.stop_below, siblings=row.siblings)


def _verdict(  # copies the row's fields; the keyword arguments are its outcome
    row: StagedRow,
    *,
    tokens: tuple[int, ...] = (),
    logprobs: tuple[TokenLogprobs, ...] = (),
    drafted: int = 0,
    accepted: int = 0,
    fused: tuple[int, int] = (0, 0),
    next_k: int = 0,
    stop_below: int = 0,
    siblings: int = 0,
    straight: int = 0,
    finish: Finish = "",
    status: Status = "ok",
    cached_len: int = 0,
    message: str = "",
    keeps: bool = False,
    tree: int = 0,
) -> Verdict:
    return Verdict(
        session=row.session,
        epoch=row.epoch,
        round=row.round,
        base_len=row.base_len,
        tokens=tokens,
        length=row.base_len + len(tokens),
        logprobs=logprobs,
        drafted=drafted,
        accepted=accepted,
        next_k=next_k,
        stop_below=stop_below,
        siblings=siblings,
        straight=straight,
        finish=finish,
        status=status,
        cached_len=cached_len,
        message=message,
        fused_drafted=fused[0],
        fused_accepted=fused[1],
        keeps=keeps,
        tree=tree,
    )
