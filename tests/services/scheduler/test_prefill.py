"""Prefill chunks in batches with decoding rows."""

import pytest

from services.scheduler.effects import Stage
from services.scheduler.prefill import MIN_CHUNK_TOKENS, chunk_budget, share_budget
from shared.planning.cost import Packed
from shared.planning.policies import POLICY_NAMES
from tests.services.scheduler.desk import Desk


@pytest.mark.parametrize(
    ("missing", "budget", "chunks"),
    [
        ([], 512, []),
        ([1000], 512, [512]),
        ([10, 20], 512, [10, 20]),
        ([1000, 30, 500], 512, [256, 30, 226]),
        ([1000, 30], 512, [482, 30]),
        ([1000, 1000, 1000, 1000], 8, [4, 2, 1, 1]),
        ([5, 5, 5], 2, [1, 1, 0]),
    ],
)
def test_the_budget_is_dealt_in_order_of_arrival(missing: list[int], budget: int, chunks: list[int]) -> None:
    assert share_budget(missing, budget) == chunks


def test_a_chunk_may_not_stall_those_who_wait_for_the_pass() -> None:
    law, rows = Packed(20.0, 1.0, 0.01), [(5, 100)] * 4
    assert chunk_budget(512, rows, law, stall_ms=160.0) == 160
    assert chunk_budget(512, rows, law, stall_ms=1.0) == MIN_CHUNK_TOKENS
    assert chunk_budget(512, rows, law, stall_ms=float("inf")) == 512
    assert chunk_budget(512, [], law, stall_ms=200.0) == 180  # a pass of its own costs the constant as well
    assert chunk_budget(512, rows, None, stall_ms=1.0) == 512
    assert chunk_budget(16, rows, law, stall_ms=1.0) == 16


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_a_long_prompt_goes_chunk_by_chunk_and_the_last_one_samples(policy: str) -> None:
    desk = Desk(policy, prefill_tokens=64)
    desk.submit("s", prompt=150)
    seen = []
    for _ in range(3):
        row = desk.row("s")
        seen.append((row.feed_to, row.next_k > 0))
        desk.take(desk.prefilled(row))
    drafts = policy not in ("autoregressive", "greedy-batch")
    assert seen == [(64, False), (128, False), (150, drafts)]
    assert desk.session("s").length == 151


def test_a_shared_prefix_is_not_fed_again() -> None:
    desk = Desk(prefill_tokens=64)
    desk.submit("s", prompt=150)
    desk.take(desk.verdict(desk.row("s"), status="prefilled", cached=140))
    assert desk.row("s").feed_to == 150


def test_chunks_ride_in_the_batches_of_others() -> None:
    desk = Desk(prefill_tokens=64)
    desk.start("a")
    desk.take(desk.draft("a"))  # its row is under way
    rows = desk.rows
    desk.submit("p", prompt=100)
    assert desk.rows == []  # the verifier is busy, and nobody closes a batch
    desk.take(*(desk.verdict(row) for row in rows))
    assert [(row.session, row.feed_to) for row in desk.rows] == [("p", 64)]  # a drafts: it goes alone
    chunk = desk.row("p")
    desk.take(desk.draft("a"))
    assert [row.session for row in desk.rows] == ["a"]  # staged ahead, behind the chunk
    a = desk.row("a")
    desk.take(desk.verdict(chunk, status="prefilled", cached=64))
    assert desk.rows == []
    desk.take(desk.verdict(a), desk.draft("a", base_len=13))
    assert [(row.session, row.feed_to) for row in desk.rows] == [("a", 13), ("p", 100)]


def test_autoregressive_feeds_chunks_alone() -> None:
    desk = Desk("autoregressive", prefill_tokens=64)
    desk.submit("a", "b", prompt=40)
    stages = desk.did(Stage)
    assert [[row.session for row in stage.batch.rows] for stage in stages] == [["a"], ["b"]]


def test_rows_in_a_batch_are_bounded() -> None:
    desk = Desk(max_rows=2, devices=())
    desk.submit("a", "b", "c", prompt=10)
    assert [row.session for row in desk.rows] == ["a", "b"]


def test_need_prefill_rebuilds_from_what_is_cached() -> None:
    desk = Desk(prefill_tokens=64)
    desk.start("s", prompt=200)
    desk.take(desk.draft("s"))
    desk.take(desk.verdict(desk.row("s"), status="need_prefill", cached=16))
    assert (desk.row("s").base_len, desk.row("s").feed_to, desk.row("s").tokens) == (201, 80, ())


def test_a_chunk_too_large_for_the_verifier_is_halved() -> None:
    desk = Desk(prefill_tokens=64)
    desk.submit("s", prompt=200)
    feeds = []
    for _ in range(3):
        feeds.append(desk.row("s").feed_to)
        desk.take(desk.verdict(desk.row("s"), status="need_prefill", cached=0))
    assert feeds == [64, 32, 16]
