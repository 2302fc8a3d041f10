"""The verifier's rules, with neither model nor broker nor clock: what a row may do, and what it comes to.

A session's text is `ids`: the prompt and what is committed. A row with base_len == len(ids) moves it on;
any other is answered without the model. Every row is judged alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.compute.target import Choices, TargetRow
from shared.protocol import limits
from shared.protocol.messages import Finish, StagedRow, Status, TokenLogprobs, Verdict
from shared.protocol.session import SessionLog, SessionSpec
from shared.speculative.rule import accept_chain, accept_tree


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the target can hold."""

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

    trusted False: a commit came out otherwise than expected, so the log has to be read before the next row.
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
        """Tokens it may still emit."""
        return len(self.spec.prompt) + self.spec.max_tokens - len(self.ids)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a row came to, and what stays cached of it: `keep` tokens, then the nodes of `path`."""

    verdict: Verdict
    keep: int
    path: tuple[int, ...] = ()


def session_from_log(log: SessionLog, joined: int, bounds: Bounds) -> VerifiedSession:
    """A session from its log."""
    unfit = unfit_reason(log.spec, bounds)
    return VerifiedSession(log.spec, log.head.epoch, list(log.ids), log.head.finish, joined, unfit=unfit)


def unfit_reason(spec: SessionSpec, bounds: Bounds) -> str:
    """Why the target cannot serve such a session, "" when it can. The gateway refuses these; we do not rely on it."""
    if not spec.prompt:
        return "empty prompt"
    if len(spec.prompt) + spec.max_tokens > bounds.session_tokens:
        return f"prompt and completion exceed {bounds.session_tokens} tokens"
    if not 0 <= min(spec.prompt) <= max(spec.prompt) < bounds.vocab:
        return f"prompt token beyond the vocabulary of {bounds.vocab}"
    return ""


def wants_log(row: StagedRow, session: VerifiedSession | None) -> bool:
    """Whether the log may know more of the row's session than we do."""
    return (
        session is None or not session.trusted or row.epoch > session.epoch or row.base_len > session.length
    )


def judge(row: StagedRow, session: VerifiedSession | None, bounds: Bounds) -> Verdict | None:
    """The answer to a row that the model does not see; None: it does.

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
    """What is wrong with a row, "" when nothing is."""
    if row.base_len > session.length:
        return f"base_len {row.base_len} in the future, committed {session.length}"
    if row.feed_to > row.base_len:
        return f"feed_to {row.feed_to} beyond base_len {row.base_len}"
    if len(row.tokens) > limits.MAX_DRAFT:
        return f"draft of {len(row.tokens)} tokens, at most {limits.MAX_DRAFT}"
    if any(not 0 <= token < bounds.vocab for token in row.tokens):
        return f"token {max(row.tokens)} beyond the vocabulary of {bounds.vocab}"
    if row.parents and not _is_tree(row.parents, len(row.tokens)):
        return "parents do not form a tree over the draft"
    return ""


def _is_tree(parents: Sequence[int], nodes: int) -> bool:
    return len(parents) == nodes and all(-1 <= parent < i for i, parent in enumerate(parents))


def useful_draft(row: StagedRow, session: VerifiedSession) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A row's draft (tokens, parents) as far as it can matter: a chain stops one short of max_tokens.

    So a session never needs KV beyond prompt + max_tokens; a tree that would is left out.
    """
    if row.feed_to < row.base_len:
        return (), ()
    useful = session.remaining - 1  # the model's own token after the draft is committed as well
    if not row.parents:
        return row.tokens[:useful], ()
    return (row.tokens, row.parents) if len(row.tokens) <= useful else ((), ())


def target_row(row: StagedRow, session: VerifiedSession, cached: int, spare: int) -> TargetRow | None:
    """What the model is fed for a row, when `cached` tokens of it are and `spare` may be fed beyond one.

    None: nothing to feed, or no room in this batch. A row cut short chooses nothing.
    """
    wanted = row.feed_to - cached
    fed = min(wanted, 1 + spare)
    if wanted <= 0 or (fed < wanted and spare == 0):
        return None
    tokens, parents = useful_draft(row, session) if fed == wanted else ((), ())
    return TargetRow(
        session=row.session,
        start=cached,
        tokens=(*session.ids[cached : cached + fed], *tokens),
        committed=fed,
        choose=fed == wanted and row.feed_to == row.base_len,
        sampling=session.spec.sampling,
        logprobs=session.spec.logprobs,
        parents=parents,
    )


def fed_only(row: StagedRow, cached: int) -> Verdict:
    """The answer to a row that chose nothing: a chunk of prefill, or a row that needs more of it first."""
    status: Status = "prefilled" if row.feed_to < row.base_len else "need_prefill"
    return _verdict(row, status=status, cached_len=cached)


def settle(row: StagedRow, session: VerifiedSession, fed: TargetRow, choices: Choices) -> Settled:
    """The acceptance rule on a row that the model chose for, its text cut at the first stop id or the limit."""
    draft = fed.tokens[fed.committed :]
    if fed.parents:
        path = tuple(accept_tree(draft, fed.parents, choices.tokens))
        kept, accepted = row.base_len, len(path)
        said = [
            0,
            *(node + 1 for node in path),
        ]  # which choices are committed: after the root, after each node
    else:
        path = ()
        accepted = accept_chain(draft, choices.tokens)
        kept = row.base_len + accepted
        said = list(range(accepted + 1))
    tokens, finish = cut([choices.tokens[i] for i in said], session)
    logprobs: tuple[TokenLogprobs, ...] = ()
    if choices.logprobs:
        logprobs = tuple(choices.logprobs[i] for i in said[: len(tokens)])
    verdict = _verdict(
        row,
        tokens=tokens,
        logprobs=logprobs,
        drafted=len(draft),
        accepted=min(accepted, len(tokens)),
        next_k=0 if finish else row.next_k,
        finish=finish,
        cached_len=row.base_len + accepted,
    )
    return Settled(verdict, kept, path)


def cut(tokens: Sequence[int], session: VerifiedSession) -> tuple[tuple[int, ...], Finish]:
    """Tokens up to the first stop id (it included) or the session's limit, and why it ends there ("" = it does not)."""
    ends = [i + 1 for i, token in enumerate(tokens) if token in session.spec.stop_ids]
    if ends and ends[0] <= session.remaining:
        return tuple(tokens[: ends[0]]), "stop"
    if len(tokens) >= session.remaining:
        return tuple(tokens[: session.remaining]), "length"
    return tuple(tokens), ""


def refusal(row: StagedRow, status: Status, message: str) -> Verdict:
    """A row that was not run, and why."""
    return _verdict(row, status=status, message=message)


def already_committed(row: StagedRow) -> Verdict:
    """An "ok" without tokens: the row is behind the log, which `commit` answers it from."""
    return _verdict(row, next_k=row.next_k)


def _verdict(  # the fields that a row decides, and those its outcome does
    row: StagedRow,
    *,
    tokens: tuple[int, ...] = (),
    logprobs: tuple[TokenLogprobs, ...] = (),
    drafted: int = 0,
    accepted: int = 0,
    next_k: int = 0,
    finish: Finish = "",
    status: Status = "ok",
    cached_len: int = 0,
    message: str = "",
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
        finish=finish,
        status=status,
        cached_len=cached_len,
        message=message,
    )
