"""A session's life in the core: every transition of a round."""

from typing import Any

import pytest

from services.scheduler.core import UnexpectedMessage
from services.scheduler.effects import AckDraft, End, PlaceSession, ReadHead, SendToDevice, Stage
from shared.planning.calibration import BIN, OWN_WORD, REFIT_EVERY
from shared.protocol.messages import Cancel, Close, Open, Submit
from tests.services.scheduler.desk import Desk


def test_a_submit_is_placed_opened_and_prefilled_at_once() -> None:
    desk = Desk()
    desk.submit("s", prompt=10)
    assert desk.did(PlaceSession) == [PlaceSession("s", 1, "v", "d:1")]
    assert desk.did(SendToDevice) == [SendToDevice("d:1", Open("s", 1, 10))]
    row = desk.row("s")
    assert (row.base_len, row.feed_to, row.next_k, row.device, row.gateway) == (10, 10, 4, "d:1", "g:1")


def test_a_repeated_submit_is_nothing() -> None:
    desk = Desk()
    desk.submit("s")
    desk.submit("s")
    assert desk.effects == []
    assert desk.dropped("submit", "repeated") == 1


def test_a_round_is_draft_batch_verdict() -> None:
    desk = Desk()
    desk.start("s")
    (entry,) = desk.take(desk.draft("s", tokens=4))
    (stage,) = desk.did(Stage)
    assert stage.drafts == (entry,)
    row = desk.row("s")
    assert (row.base_len, row.feed_to, row.tokens, row.next_k) == (11, 11, (0, 1, 2, 3), 4)
    assert not desk.core.holds(entry)
    desk.take(desk.verdict(row, emitted=3, accepted=2))
    assert (desk.session("s").length, desk.session("s").phase) == (14, "drafting")


def test_without_devices_a_round_is_batch_verdict() -> None:
    desk = Desk(devices=())
    desk.submit("s")
    for length in (10, 11, 12):
        row = desk.row("s")
        assert (row.base_len, row.next_k, row.device, row.tokens) == (length, 0, "", ())
        desk.take(desk.verdict(row))


@pytest.mark.parametrize("policy", ["autoregressive", "greedy-batch"])
def test_the_target_alone_never_asks_for_drafts(policy: str) -> None:
    desk = Desk(policy)
    desk.submit("s")
    for _ in range(3):
        assert desk.row("s").next_k == 0
        desk.take(desk.verdict(desk.row("s")))


def test_a_batch_waits_for_the_last_draft_and_holds_the_others() -> None:
    desk = Desk()
    desk.start("a", "b")
    (first,) = desk.take(desk.draft("a"))
    assert desk.rows == []
    assert desk.core.holds(first)
    (second,) = desk.take(desk.draft("b"))
    (stage,) = desk.did(Stage)
    assert stage.drafts == (first, second)


def test_all_messages_of_a_turn_come_before_its_batches() -> None:
    desk = Desk()
    desk.start("a", "b")
    desk.take(desk.draft("a"), desk.draft("b"))
    assert len(desk.rows) == 2
    rows = desk.rows
    desk.take(*(desk.verdict(row) for row in rows))
    desk.take(desk.draft("b"), desk.draft("a"))
    assert len(desk.did(Stage)) == 1


def test_the_last_tokens_are_not_overshot() -> None:
    desk = Desk()
    desk.start("s", tokens=6)  # one committed, five remain
    desk.take(desk.draft("s", tokens=4))
    assert desk.row("s").next_k == 3  # of the next row's four tokens at most, one is not drafted
    desk.take(desk.verdict(desk.row("s"), emitted=4, accepted=3))
    desk.take(desk.draft("s", tokens=0))
    assert desk.row("s").next_k == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"session": "x"}, "unknown"),
        ({"epoch": 0}, "epoch"),
        ({"device": "other:1"}, "device"),
        ({"device": "d:2"}, "device"),
        ({"base_len": 12}, "ahead"),
        ({"base_len": 10}, "late"),
    ],
)
def test_a_draft_that_is_not_the_sessions_next_move_is_dropped(change: dict[str, Any], reason: str) -> None:
    desk = Desk()
    desk.start("s")
    (entry,) = desk.take(desk.draft("s", **change))
    assert desk.rows == []
    assert not desk.core.holds(entry)
    assert desk.dropped("draft", reason) == 1
    assert desk.session("s").phase == "drafting"


def test_an_oversized_draft_costs_the_device_its_turn() -> None:
    desk = Desk()
    desk.start("s")
    desk.take(desk.draft("s", tokens=5))
    row = desk.row("s")
    assert (row.tokens, row.next_k) == ((), 0)  # on probation
    assert desk.dropped("draft", "oversized") == 1


@pytest.mark.parametrize("survival", [b"", bytes(5), bytes((9, 9, 9, 10))])
def test_survival_that_does_not_fit_its_draft_costs_the_device_its_turn(survival: bytes) -> None:
    desk = Desk()
    desk.start("s")
    desk.take(desk.draft("s", survival=survival))
    row = desk.row("s")
    assert (row.tokens, row.next_k) == ((), 0)  # on probation
    assert desk.dropped("draft", "survival") == 1


def test_an_empty_draft_is_an_answer_and_its_tokens_are_spared() -> None:
    desk = Desk()
    desk.start("s")
    (entry,) = desk.take(desk.draft("s", tokens=0))
    row = desk.row("s")
    assert (row.tokens, row.next_k) == ((), 4)  # no probation
    assert not desk.core.holds(entry)
    assert desk.count("spared_tokens") == 4


@pytest.mark.parametrize(("temperature", "kind"), [(0.0, "greedy"), (0.7, "sampled")])
def test_survival_bytes_are_calibrated_by_what_is_accepted(temperature: float, kind: str) -> None:
    """A device that is sure of four tokens, of which the core accepts one."""
    desk = Desk()
    desk.take(Submit("s", 10, 400, 60_000, "g:1", temperature=temperature))
    desk.take(desk.verdict(desk.row("s")))
    for _ in range(2 * REFIT_EVERY):
        desk.take(desk.draft("s", survival=bytes((250, 240, 230, 220))))
        desk.take(desk.verdict(desk.row("s"), emitted=2, accepted=1))
    estimate = desk.core.devices()["d"]
    curve = getattr(estimate, kind).curve
    assert curve[250 // BIN] > 0.4 > curve[220 // BIN]
    other = estimate.greedy if kind == "sampled" else estimate.sampled
    assert other.curve == OWN_WORD


def test_a_second_draft_and_a_redelivered_one_are_harmless() -> None:
    desk = Desk()
    desk.start("a", "b")
    draft = desk.draft("a")
    (entry,) = desk.take(draft)
    (again,) = desk.take(draft)
    assert desk.core.holds(entry)
    assert not desk.core.holds(again)
    desk.core.handle(draft, entry, desk.now, again=True)
    assert desk.core.holds(entry)


def test_a_draft_that_does_not_come_is_done_without() -> None:
    desk = Desk()
    desk.start("a", "b")
    late = desk.draft("b")
    desk.take(desk.draft("a"))
    wake = desk.core.next_wake()
    assert wake is not None
    assert 0 < wake - desk.now <= 2.0
    desk.tick(after=2.1)
    assert (desk.row("b").base_len, desk.row("b").tokens) == (11, ())
    assert len(desk.row("a").tokens) == 4
    assert desk.row("b").next_k == 0
    assert desk.count("timers_fired", kind="drafting") == 1
    desk.take(late)
    assert desk.dropped("draft", "late") == 1
    assert desk.session("b").phase == "verifying"


def test_probation_grows_and_ends_with_a_draft_in_time() -> None:
    desk = Desk()
    desk.start("s")
    for penalty in (0.5, 1.0, 2.0):
        desk.tick(after=2.1)
        assert desk.session("s").draft_after == pytest.approx(desk.now + penalty)
        while desk.session("s").phase != "drafting":
            desk.now += 0.2
            desk.take(desk.verdict(desk.row("s")))
    desk.take(desk.draft("s"))
    assert desk.session("s").penalty_s == 0.5


def test_the_wait_for_a_draft_follows_the_devices_speed() -> None:
    desk = Desk()
    desk.start("s")
    for _ in range(3):
        desk.now += 0.05
        desk.take(desk.draft("s"))
        desk.take(desk.verdict(desk.row("s")))
    wake = desk.core.next_wake()
    assert wake is not None
    assert wake - desk.now == pytest.approx(0.5)  # not the two seconds of a first draft


def test_a_verdict_that_does_not_come_is_looked_up_in_the_log() -> None:
    desk = Desk()
    desk.start("s")
    desk.take(desk.draft("s"))
    lost = desk.verdict(desk.row("s"), emitted=5, accepted=4)
    desk.tick(after=2.1)
    assert desk.did(ReadHead) == [ReadHead("s")]
    desk.core.on_head(desk.head("s", committed=6), desk.now)
    desk.tick()
    assert (desk.row("s").base_len, desk.row("s").tokens) == (16, ())
    desk.take(lost)  # only late
    assert desk.dropped("verdict", "repeated") == 1
    assert desk.session("s").length == 16


def test_a_row_that_got_lost_is_staged_again_and_waited_for_longer() -> None:
    desk = Desk()
    desk.submit("s")
    first = desk.row("s")
    for wait in (2.0, 4.0, 8.0):
        desk.tick(after=wait + 0.1)
        desk.core.on_head(desk.head("s"), desk.now)
        desk.tick()
        assert (desk.row("s").base_len, desk.row("s").feed_to) == (first.base_len, first.feed_to)
    desk.take(desk.verdict(first))
    assert desk.session("s").misses == 0


def test_a_session_that_ended_without_our_hearing_is_forgotten() -> None:
    desk = Desk()
    desk.submit("a", "b")
    desk.tick(after=2.1)
    desk.core.on_head(desk.head("a", finish="stop"), desk.now)
    desk.core.on_missing_log("b")
    desk.core.on_missing_log("never heard of")
    assert not desk.core.sessions


def test_a_finish_ends_the_session_here_too() -> None:
    desk = Desk()
    desk.start("s")
    desk.take(desk.draft("s"))
    desk.take(desk.verdict(desk.row("s"), emitted=2, finish="stop"))
    assert not desk.core.sessions
    assert desk.did(End) == []  # the commit has told everybody
    assert desk.core.next_wake() is None


def test_cancel_ends_it_on_all_sides_and_lets_the_held_draft_go() -> None:
    desk = Desk()
    desk.start("a", "b")
    (entry,) = desk.take(desk.draft("a"))
    desk.take(Cancel("a"))
    assert desk.did(End) == [End("a", Close("a", 1, "cancel"), "v", "d:1", "g:1")]
    assert desk.did(AckDraft) == [AckDraft(entry)]
    desk.take(Cancel("a"))
    assert desk.dropped("cancel", "unknown") == 1


def test_nobody_waits_for_a_session_that_left() -> None:
    desk = Desk()
    desk.start("a", "b")
    desk.take(desk.draft("a"))
    desk.take(Cancel("b"))
    assert [row.session for row in desk.rows] == ["a"]


def test_the_deadline_ends_a_session_in_any_phase() -> None:
    desk = Desk()
    desk.start("s", deadline_ms=1000)
    desk.tick(after=0.99)
    assert desk.did(End) == []
    desk.tick(after=0.02)
    (end,) = desk.did(End)
    assert end.close.finish == "deadline"


def test_a_row_without_pages_is_offered_again_soon() -> None:
    desk = Desk()
    desk.start("s")
    desk.take(desk.draft("s"))
    desk.take(desk.verdict(desk.row("s"), status="no_pages"))
    assert desk.rows == []
    desk.tick(after=0.021)
    assert (desk.row("s").base_len, desk.row("s").tokens) == (11, ())


def test_a_chunk_without_pages_too() -> None:
    desk = Desk()
    desk.submit("s", prompt=100)
    desk.take(desk.verdict(desk.row("s"), status="no_pages"))
    desk.tick(after=0.021)
    assert desk.row("s").feed_to == 64


def test_an_error_row_closes_its_session_with_the_reason() -> None:
    desk = Desk()
    desk.start("a", "b")
    desk.take(desk.draft("a"), desk.draft("b"))
    bad, good = desk.rows
    desk.take(desk.verdict(bad, status="error"), desk.verdict(good))
    (end,) = desk.did(End)
    assert (end.session, end.close.finish) == ("a", "error")
    assert end.close.message
    assert desk.session("b").phase == "drafting"


def test_a_stale_row_is_looked_up_after_a_moment() -> None:
    desk = Desk()
    desk.submit("s")
    desk.take(desk.verdict(desk.row("s"), status="stale"))
    assert desk.did(ReadHead) == []
    desk.tick(after=0.1)
    assert desk.did(ReadHead) == [ReadHead("s")]
    desk.core.on_head(desk.head("s", epoch=3), desk.now)
    desk.tick()
    assert desk.row("s").epoch == 3


@pytest.mark.parametrize("change", [{"epoch": 0}, {"session": "x"}])
def test_a_strangers_verdict_is_dropped(change: dict[str, object]) -> None:
    desk = Desk()
    desk.submit("s")
    answer = desk.verdict(desk.row("s"))
    fields = {name: getattr(answer, name) for name in answer.__dataclass_fields__}
    desk.take(type(answer)(**{**fields, **change}))
    assert desk.session("s").length == 10


def test_alpha_is_learnt_from_verdicts() -> None:
    desk = Desk()
    desk.start("s")
    before = desk.session("s").acceptance.alpha
    for _ in range(20):
        desk.take(desk.draft("s"))
        desk.take(desk.verdict(desk.row("s"), emitted=1, accepted=0))
    assert desk.session("s").acceptance.alpha < before / 2
    assert desk.count("positions", position="1", outcome="rejected") == 20
    assert desk.count("drafted_tokens") == 80


def test_messages_that_are_not_for_a_scheduler_are_refused() -> None:
    with pytest.raises(UnexpectedMessage, match="Open"):
        Desk().core.handle(Open("s", 1, 1), "1-0", 0.0)
