"""One verification step on a modelled target: which rows pass, their verdicts, and what stays cached."""

from collections.abc import Sequence
from dataclasses import replace

from services.verifier.core import Bounds, VerifiedSession
from services.verifier.step import Step, plan_step, run_step, undo_step
from shared.compute.core_drafter import CoreDrafter, LookupDrafter
from shared.compute.drafter import DraftRequest
from shared.compute.modelled import expected_text
from shared.compute.modelled_target import ModelledTarget
from shared.protocol.messages import StagedRow
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams

VOCAB = 100
PROMPT = tuple(range(1, 9))
BOUNDS = Bounds(VOCAB, max_context=64, pool_tokens=128)
SAMPLING = SamplingParams(seed=1, vocab=VOCAB)
TEXT = expected_text(PROMPT, SAMPLING, 8)


def target(kv_tokens: int = 128) -> ModelledTarget:
    return ModelledTarget(VOCAB, kv_tokens=kv_tokens, page_tokens=4, prefix_sharing=False)


def session(name: str, joined: int) -> VerifiedSession:
    spec = SessionSpec(name, PROMPT, SAMPLING, 20, (), "g:1", 10_000)
    return VerifiedSession(spec, 1, list(PROMPT), "", joined)


def row(name: str, base_len: int, *tokens: int, epoch: int = 1, feed_to: int | None = None) -> StagedRow:
    fed = base_len if feed_to is None else feed_to
    return StagedRow(name, epoch, 1, base_len, fed, 4, "d:1", "g:1", tokens)


def plan(
    kv: ModelledTarget, *rows: StagedRow, feed_tokens: int = 64, drafter: CoreDrafter | None = None
) -> Step:
    known = {name: session(name, joined) for joined, name in enumerate("abc")}
    sessions = {one.session: known.get(one.session) for one in rows}
    return plan_step(kv, drafter or LookupDrafter(), rows, sessions, BOUNDS, feed_tokens)


class Knowing:
    """A core drafter that offers the right tokens and then wrong ones."""

    def __init__(self, right: int) -> None:
        self._right = right

    def draft(self, requests: Sequence[DraftRequest]) -> list[tuple[int, ...]]:
        """More than it was asked for, which is cut."""
        return [(*TEXT[: self._right], 99, 99, 99, 99) for _ in requests]

    def forget(self, session: str) -> None:
        """Nothing is held."""


def test_valid_rows_pass_in_order_of_age_and_the_others_are_answered() -> None:
    stale = row("a", 8, epoch=0)
    step = plan(target(), row("c", 8), row("b", 8), row("b", 8, 5), stale, row("x", 8))
    assert [fed.session for fed in step.inputs] == ["b", "c"]
    assert [(of.session, verdict.status, verdict.message) for of, verdict in step.answers] == [
        ("b", "stale", "twice in one batch"),
        ("a", "stale", "epoch 0, the log is at 1"),
        ("x", "error", "unknown session"),
    ]


def test_the_verdicts_follow_the_targets_choices_and_the_cache_the_verdicts() -> None:
    kv = target()
    draft = (TEXT[0], TEXT[1], (TEXT[2] + 1) % VOCAB)
    chunk, drafted = row("a", 8, feed_to=5), row("b", 8, *draft)
    answers = run_step(kv, plan(kv, drafted, chunk))
    assert [of for of, _ in answers] == [chunk, drafted]
    (_, prefilled), (_, verdict) = answers
    assert (prefilled.status, prefilled.cached_len, kv.cached("a")) == ("prefilled", 5, 5)
    assert (verdict.tokens, verdict.drafted, verdict.accepted) == (TEXT[:3], 3, 2)
    assert kv.cached("b") == verdict.cached_len == 10


def test_a_token_that_the_target_lacks_ends_a_draft_and_nobodys_session() -> None:
    kv = target()
    answers = run_step(kv, plan(kv, row("a", 8, TEXT[0], VOCAB), row("b", 8, TEXT[0])))
    assert [(verdict.status, verdict.tokens, verdict.drafted) for _, verdict in answers] == [
        ("ok", TEXT[:2], 1),
        ("ok", TEXT[:2], 1),
    ]


def test_the_core_drafts_for_a_row_that_may_have_free_tokens_and_for_no_other() -> None:
    kv, free = target(), replace(row("a", 8), free=3)
    chunk, drafted = replace(row("b", 8, feed_to=5), free=3), replace(row("c", 8, TEXT[0]), free=3)
    step = plan(kv, free, chunk, drafted, drafter=Knowing(2))
    assert [len(fed.tokens) - fed.committed for fed in step.inputs] == [3, 0, 1]
    assert step.fused == 3
    (_, verdict), (_, prefilled), (_, other) = run_step(kv, step)
    assert (verdict.tokens, verdict.fused_drafted, verdict.fused_accepted) == (TEXT[:3], 3, 2)
    assert (verdict.drafted, verdict.accepted) == (0, 0)
    assert kv.cached("a") == verdict.cached_len == 10
    assert prefilled.status == "prefilled"
    assert (other.drafted, other.accepted, other.fused_drafted) == (1, 1, 0)


def test_free_tokens_that_find_no_pages_are_left_out() -> None:
    kv = target(kv_tokens=8)
    (_, verdict), *others = run_step(kv, plan(kv, replace(row("a", 8), free=3), drafter=Knowing(3)))
    assert (verdict.status, verdict.tokens, verdict.fused_drafted) == ("ok", TEXT[:1], 0)
    assert not others


def test_the_outcome_needs_no_target() -> None:
    kv = target()
    step = plan(kv, row("a", 8, *TEXT[:2]))
    (verified,) = step.outcome(kv.forward(step.inputs))
    assert (verified.verdict.tokens, verified.keep, verified.path) == (TEXT[:3], 10, ())


def test_the_feed_budget_goes_to_the_oldest() -> None:
    step = plan(target(), row("b", 8), row("a", 8), feed_tokens=7)
    assert [(fed.session, len(fed.tokens)) for fed in step.inputs] == [("a", 8)]
    ((refused, verdict),) = step.answers
    assert (refused.session, verdict.status, verdict.cached_len) == ("b", "need_prefill", 0)


def test_a_younger_session_finds_no_pages() -> None:
    kv = target(kv_tokens=12)
    step = plan(kv, row("b", 8), row("a", 8))
    assert [fed.session for fed in step.inputs] == ["a"]
    assert [(of.session, verdict.status) for of, verdict in step.answers] == [("b", "no_pages")]


def test_undo_leaves_the_cache_as_it_was_or_drops_a_prompt() -> None:
    kv = target()
    kv.admit("a", PROMPT, ["a"], 9)
    old, new = session("a", 0), session("b", 1)
    old.ids.append(TEXT[0])
    run_step(kv, plan_step(kv, LookupDrafter(), [row("a", 8)], {"a": session("a", 0)}, BOUNDS, 64))
    sessions = {"a": old, "b": new}
    step = plan_step(kv, LookupDrafter(), [row("a", 9, 5, 6), row("b", 8)], sessions, BOUNDS, 64)
    kv.forward(step.inputs)
    undo_step(kv, step)
    assert (kv.cached("a"), kv.cached("b")) == (8, 0)
