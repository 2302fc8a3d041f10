"""One verification step on the compute thread: reserve KV, run the model once, apply the rule, roll back."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.verifier.core import VerifiedSession, fed_only, refusal, settle, target_row, useful_draft
from shared.compute.target import TargetModel, TargetRow
from shared.protocol.messages import StagedRow, Verdict

Answer = tuple[StagedRow, Verdict]


@dataclass(frozen=True, slots=True)
class FedRow:
    """A row of the forward pass."""

    row: StagedRow
    session: VerifiedSession
    target_row: TargetRow


def prepare(
    target: TargetModel, rows: Sequence[tuple[StagedRow, VerifiedSession]], feed_tokens: int
) -> tuple[list[FedRow], list[Answer]]:
    """Reserve KV for judged rows of different sessions. Returns the rows to run, and answers to the others.

    The batch feeds at most `feed_tokens` committed tokens beyond one per row. Rows go in order of session age and only
    earlier rows are protected from eviction, so that a younger session never takes an older one's room.
    """
    feeds: list[FedRow] = []
    answers: list[Answer] = []
    spare = feed_tokens
    protect: list[str] = []
    for row, session in sorted(rows, key=lambda pair: pair[1].joined):
        length = row.feed_to + len(useful_draft(row, session)[0])
        protect.append(row.session)
        if not target.admit(row.session, session.spec.prompt, protect, length):
            protect.pop()
            answers.append((row, refusal(row, "no_pages", f"no KV pages for {length} tokens")))
            continue
        cached = target.cached(row.session)
        fed = target_row(row, session, cached, spare)
        if fed is None:
            answers.append((row, fed_only(row, cached)))
        else:
            spare -= fed.committed - 1
            feeds.append(FedRow(row, session, fed))
    return feeds, answers


def verify(target: TargetModel, feeds: Sequence[FedRow]) -> list[Answer]:
    """Run one forward pass and apply the rule. Afterwards each session's cache matches its verdict."""
    answers: list[Answer] = []
    for fed, choices in zip(feeds, target.forward([fed.target_row for fed in feeds]), strict=True):
        if not fed.target_row.choose:
            answers.append((fed.row, fed_only(fed.row, target.cached(fed.row.session))))
            continue
        settled = settle(fed.row, fed.session, fed.target_row, choices)
        target.keep(fed.row.session, settled.keep, settled.path)
        answers.append((fed.row, settled.verdict))
    return answers


def undo(target: TargetModel, feeds: Sequence[FedRow]) -> None:
    """Uncache everything of a pass that raised. Sessions fed prompt tokens are dropped: pages may be shared already."""
    for fed in feeds:
        if fed.target_row.start < len(fed.session.spec.prompt):
            target.forget(fed.row.session)
        else:
            target.keep(fed.row.session, fed.target_row.start)


def keep_common_prefix(target: TargetModel, known: VerifiedSession, found: VerifiedSession) -> None:
    """Keep the cache of the common prefix of our copy `known` and the log's version `found`.

    At least one token is left to feed, since the next choice needs its logits.
    """
    pairs = zip(known.ids, found.ids, strict=False)
    common = next((i for i, (a, b) in enumerate(pairs) if a != b), known.length)
    name = found.spec.session
    cached = target.cached(name)
    length = min(cached, common, found.length - 1)
    if length < min(cached, len(found.spec.prompt)):
        target.forget(name)
    elif length < cached:
        target.keep(name, length)
