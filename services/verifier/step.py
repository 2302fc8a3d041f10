"""One verification step on the compute thread: make room, run the model once, apply the rule, roll back."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.verifier.core import VerifiedSession, fed_only, refusal, settle, target_row, useful_draft
from shared.compute.target import TargetModel, TargetRow
from shared.protocol.messages import StagedRow, Verdict

Answer = tuple[StagedRow, Verdict]


@dataclass(frozen=True, slots=True)
class FedRow:
    """A row that goes into the forward pass."""

    row: StagedRow
    session: VerifiedSession
    target_row: TargetRow


def prepare(
    target: TargetModel, rows: Sequence[tuple[StagedRow, VerifiedSession]], feed_tokens: int
) -> tuple[list[FedRow], list[Answer]]:
    """Reserve KV for judged rows of different sessions; those to run, and the answers of the others.

    The batch feeds at most `feed_tokens` committed tokens beyond one a row. The oldest session comes first and
    only rows already in are protected, so that room is never refused to it for the sake of a younger one.
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
    """One forward pass and the rule. Afterwards the cache of each session holds what its verdict says."""
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
    """After a forward pass that raised: nothing of it stays cached. Prompt pages may be shared already, so all go."""
    for fed in feeds:
        if fed.target_row.start < len(fed.session.spec.prompt):
            target.forget(fed.row.session)
        else:
            target.keep(fed.row.session, fed.target_row.start)


def keep_common_prefix(target: TargetModel, known: VerifiedSession, found: VerifiedSession) -> None:
    """The log turned out to hold `found` where we had `known`: keep what is cached of their common prefix.

    At least one token is left to feed, since the next choice has to come from somewhere.
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
