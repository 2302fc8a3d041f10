"""Rounds in which the core drafts itself: `free` tokens of a row, and what is learnt of them."""

from dataclasses import replace

from services.scheduler.verifiers import Pass
from tests.services.scheduler.desk import Desk


def test_rows_may_have_free_tokens_and_no_device_is_asked() -> None:
    desk = Desk(k=3, window="fused")
    desk.submit("s")
    for _ in range(3):
        row = desk.row("s")
        assert (row.free, row.next_k, row.stop_below) == (3, 0, 0)
        desk.take(desk.verdict(row, emitted=2))
        assert desk.session("s").phase == "verifying"  # staged on the verdict


def test_a_session_without_a_device_has_them_as_well() -> None:
    desk = Desk(k=3, window="fused", devices=())
    desk.submit("s", tokens=4)
    prompt = desk.row("s")
    assert prompt.free == 3  # at most what may be emitted beside the row's own token
    desk.take(desk.verdict(prompt, emitted=2))
    assert desk.row("s").free == 1


def test_a_chunk_of_a_prompt_has_none() -> None:
    desk = Desk(k=3, window="fused")
    desk.submit("s", prompt=100)
    assert desk.row("s").free == 0


def test_what_the_core_drafts_says_nothing_about_devices() -> None:
    desk = Desk(k=3, window="fused")
    desk.submit("s")
    before = desk.session("s").acceptance.alpha
    verdict = replace(desk.verdict(desk.row("s"), emitted=2), fused_drafted=3, fused_accepted=1)
    desk.take(verdict)
    session = desk.session("s")
    assert (session.acceptance.alpha, session.acceptance.seen) == (before, 0)
    assert desk.count("drafted_tokens") == 0


def test_tokens_of_the_core_count_in_the_cost_of_a_pass() -> None:
    done = Pass(((1, 100), (4, 50)), 0.1, decodes=True)
    assert done.with_fused(0) is done
    assert done.with_fused(5).rows == ((6, 100), (4, 50))
