"""One verification step: a staged batch from its rows to their verdicts.

`plan_step` decides which rows go through the model, reserves their KV and answers the others. The step carries the
model's input. `run_step` makes the forward pass and turns the model's choices into verdicts. Both run on the compute
thread; the rules are in core.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from services.verifier.core import (
    Bounds,
    VerifiedRow,
    VerifiedSession,
    core_request,
    fed_only,
    refusal,
    target_row,
    useful_draft,
    verdict_without_pass,
    verify_row,
    with_known_tokens,
)
from shared.compute.core_drafter import CoreDrafter
from shared.compute.target import Choices, TargetModel, TargetRow
from shared.protocol.messages import StagedRow, Verdict

Answer = tuple[StagedRow, Verdict]


@dataclass(frozen=True, slots=True)
class PassRow:
    """A row that goes through the model."""

    row: StagedRow
    session: VerifiedSession
    fed: TargetRow


@dataclass(frozen=True, slots=True)
class Step:
    """The rows of one batch that go through the model, and the answers to all others."""

    passing: tuple[PassRow, ...]
    answers: tuple[Answer, ...]

    @property
    def inputs(self) -> list[TargetRow]:
        """The model's input, one row of different sessions each."""
        return [one.fed for one in self.passing]

    @property
    def fused(self) -> int:
        """Tokens that the verifier drafted itself."""
        return sum(len(one.fed.tokens) - one.fed.committed for one in self.passing if not one.row.tokens)

    def outcome(self, choices: Sequence[Choices]) -> list[VerifiedRow]:
        """The verdicts on the rows that went through the model. choices: one per row of `inputs`."""
        return [
            verify_row(one.row, one.session, one.fed, chosen)
            for one, chosen in zip(self.passing, choices, strict=True)
        ]


def plan_step(
    target: TargetModel,
    drafter: CoreDrafter,
    rows: Sequence[StagedRow],
    sessions: Mapping[str, VerifiedSession | None],
    bounds: Bounds,
    feed_tokens: int,
) -> Step:
    """Plan a batch and reserve its KV. sessions: of all rows; None where there is no log.

    drafter: for rows that may have `free` tokens, which never cost a row its place for want of KV. Of several rows of
    one session the first counts. The batch feeds at most `feed_tokens` committed tokens beyond one per row. Rows go in
    order of session age and only earlier rows are protected from eviction, so that a younger session never takes an
    older one's room.
    """
    valid, answers = _split_valid(rows, sessions, bounds)
    drafts = _core_drafts(drafter, valid)
    passing: list[PassRow] = []
    spare = feed_tokens
    protect: list[str] = []
    for row, session in sorted(valid, key=lambda pair: pair[1].joined):
        fused = drafts.get(row.session, ())
        length = row.feed_to + len(useful_draft(row, session)[0])
        protect.append(row.session)
        admit = partial(target.admit, row.session, session.spec.prompt, protect)
        if fused and not admit(length + len(fused)):
            fused = ()
        if not fused and not admit(length):
            protect.pop()
            answers.append((row, refusal(row, "no_pages", f"no KV pages for {length} tokens")))
            continue
        cached = target.cached(row.session)
        if (
            cached >= row.base_len == row.feed_to
        ):  # a tree was given up here; the next choice needs the last token fed
            cached = row.base_len - 1
            target.keep(row.session, cached)
        fed = target_row(row, session, cached, spare, fused)
        if fed is None:
            answers.append((row, fed_only(row, cached)))
        else:
            spare -= fed.committed - 1
            passing.append(PassRow(row, session, fed))
    return Step(tuple(passing), tuple(answers))


def run_step(target: TargetModel, step: Step) -> list[Answer]:
    """Run one forward pass. Returns the answers to its rows; afterwards each session's cache matches its answer."""
    return finish_step(target, step, target.forward(step.inputs))


def finish_step(target: TargetModel, step: Step, choices: Sequence[Choices]) -> list[Answer]:
    """The answers to the rows of a pass. choices: one per row of `inputs`. Rolls each cache back to its answer."""
    verified = step.outcome(choices)
    for one in verified:
        if one.keep is not None:
            target.keep(one.verdict.session, one.keep, one.path)
    return [(passed.row, one.verdict) for passed, one in zip(step.passing, verified, strict=True)]


def undo_step(target: TargetModel, step: Step) -> None:
    """Uncache everything of a pass that raised. Sessions fed prompt tokens are dropped: pages may be shared already."""
    for one in step.passing:
        if one.fed.start < len(one.session.spec.prompt):
            target.forget(one.row.session)
        else:
            target.keep(one.row.session, one.fed.start)


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


def _core_drafts(
    drafter: CoreDrafter, valid: Sequence[tuple[StagedRow, VerifiedSession]]
) -> dict[str, tuple[int, ...]]:
    """The verifier's own drafts by session, for the rows that may have one."""
    requests = [request for row, session in valid if (request := core_request(row, session))]
    drafts = drafter.draft(requests) if requests else []
    return {request.session: draft[: request.k] for request, draft in zip(requests, drafts, strict=True)}


def _split_valid(
    rows: Sequence[StagedRow], sessions: Mapping[str, VerifiedSession | None], bounds: Bounds
) -> tuple[list[tuple[StagedRow, VerifiedSession]], list[Answer]]:
    """Rows for the model with their sessions, and the answers to all other rows."""
    valid: list[tuple[StagedRow, VerifiedSession]] = []
    answers: list[Answer] = []
    seen: set[str] = set()
    for row in rows:
        session = sessions[row.session]
        if row.session in seen:
            answers.append((row, refusal(row, "stale", "twice in one batch")))
        elif (verdict := verdict_without_pass(row, session, bounds)) is not None:
            answers.append((row, verdict))
        elif session is not None:
            valid.append((with_known_tokens(row, bounds.vocab), session))
        seen.add(row.session)
    return valid, answers
