"""Placement while processes start, stop and restart."""

from collections import Counter

from services.scheduler.effects import AckDraft, End, PlaceSession, Stage
from services.scheduler.fleet import LiveProcesses, choose_device, choose_verifier
from services.scheduler.loads import DeviceLoads
from shared.protocol.messages import Cancel, Close, Open
from tests.services.scheduler.desk import Desk, beat


def devices(*beats: object) -> LiveProcesses:
    return LiveProcesses.of(beats, (), ())  # type: ignore[arg-type]  # heartbeats


def test_sessions_go_where_most_speed_is_to_spare() -> None:
    fast, slow = (
        beat("draft_worker", "fast:1", draft_us=5_000),
        beat("draft_worker", "slow:1", draft_us=15_000),
    )
    fleet, loads, chosen = devices(fast, slow), DeviceLoads(), []
    for _ in range(8):
        chosen.append(choose_device(fleet, "", loads, ()))
        loads.add(chosen[-1])
    assert chosen.count("fast:1") == 6


def test_a_device_asked_for_is_the_only_one_that_may_see_the_prompt() -> None:
    fleet = devices(beat("draft_worker", "a:1"), beat("draft_worker", "b:4", capacity=2, draft_us=90_000))
    idle, full = Counter[str](), Counter({"b:4": 2})
    assert choose_device(fleet, "b", idle.__getitem__, ()) == "b:4"
    assert choose_device(fleet, "b", full.__getitem__, ()) == ""
    assert choose_device(fleet, "b", idle.__getitem__, {"b:4"}) == ""
    assert choose_device(fleet, "gone", idle.__getitem__, ()) == ""


def test_who_asked_for_a_device_is_served_without_drafts_until_it_is_there() -> None:
    desk = Desk(devices=("d:1",))
    desk.submit("s", device="mine")
    assert desk.session("s").device == ""
    assert desk.sent(Open) == []
    assert desk.row("s").next_k == 0
    desk.fleet(("d:1", "mine:7"))
    assert [device for device, _ in desk.sent(Open)] == ["mine:7"]
    desk.fleet(("d:1",))  # it goes again, and nobody takes its place
    assert desk.session("s").device == ""
    assert desk.sent(Open) == []
    desk.fleet(("d:1", "mine:8"))
    assert [device for device, _ in desk.sent(Open)] == ["mine:8"]


def test_who_waits_for_a_device_of_his_own_holds_nobody_else_back() -> None:
    desk = Desk(devices=())
    desk.submit("s", device="mine")
    desk.submit("t", "u")
    desk.fleet(("d:1",))
    assert [desk.session(name).device for name in "stu"] == ["", "d:1", "d:1"]


def test_sessions_that_have_just_left_a_device_do_not_count_there() -> None:
    desk = Desk(devices=("a:1", "b:1"))
    desk.start("s", "t", "u", "v")
    desk.take(*(Cancel(name) for name in "stuv"))
    crowded = [beat("draft_worker", "a:1", load=2), beat("draft_worker", "b:1")]  # a was the first to beat
    desk.fleet(crowded)
    desk.submit("w", "x", "y", "z")
    assert sorted(desk.session(name).device for name in "wxyz") == ["a:1", "a:1", "b:1", "b:1"]


def test_sessions_of_other_shards_count() -> None:
    loads = DeviceLoads()
    loads.add("a:1")
    loads.update([beat("draft_worker", "a:1", load=4)], now=10.0)
    assert loads("a:1") == 4
    loads.remove("a:1")
    loads.update(
        [beat("draft_worker", "a:1", load=4)], now=10.5
    )  # the fourth may be the one that has left us
    assert loads("a:1") == 3
    loads.update([beat("draft_worker", "a:1", load=4)], now=13.0)
    assert loads("a:1") == 4
    assert choose_device(devices(beat("draft_worker", "a:1", capacity=4)), "", loads, ()) == ""


def test_a_verifier_with_the_fewest_sessions() -> None:
    assert choose_verifier({"v": 3, "w": 1}) == "w"
    assert choose_verifier({}) == ""


def test_without_a_verifier_a_session_waits_for_one() -> None:
    desk = Desk(verifiers=())
    desk.submit("s")
    assert desk.effects == []
    desk.fleet()
    assert desk.did(PlaceSession) == [PlaceSession("s", 1, "v", "d:1")]
    assert desk.row("s").feed_to == 10


def test_or_for_its_deadline() -> None:
    desk = Desk(verifiers=())
    desk.submit("s", deadline_ms=500)
    desk.tick(after=0.6)
    assert [end.close.finish for end in desk.did(End)] == ["deadline"]


def test_without_a_device_a_session_gets_one_later_and_drafts_when_that_is_ready() -> None:
    desk = Desk(devices=())
    desk.submit("s")
    row = desk.row("s")
    desk.fleet(devices=("d:1",))
    assert desk.did(PlaceSession) == [PlaceSession("s", 1, "v", "d:1")]
    assert desk.sent(Open) == [("d:1", Open("s", 1, 10))]
    desk.take(desk.verdict(row))
    assert desk.row("s").next_k == 0
    desk.take(desk.resync("s", "ready"), desk.verdict(desk.row("s")))
    assert desk.row("s").next_k == 4


def test_a_dead_devices_sessions_move_at_once() -> None:
    desk = Desk(devices=("d:1", "e:1"))
    desk.start("a", "b")
    assert {desk.device_of("a"), desk.device_of("b")} == {"d", "e"}
    (victim,) = [name for name in "ab" if desk.device_of(name) == "d"]
    (other,) = {"a", "b"} - {victim}
    (entry,) = desk.take(desk.draft(other))
    desk.fleet(devices=("e:1",))
    assert desk.did(PlaceSession) == [PlaceSession(victim, 1, "v", "e:1")]
    assert desk.sent(Open) == [("e:1", Open(victim, 1, 11))]
    assert desk.row(victim).next_k == 0
    assert desk.row(other).next_k == 4  # nobody waits for the dead one
    assert desk.did(Stage)[0].drafts == (entry,)
    assert desk.count("moves", what="device") == 1


def test_or_go_on_without_drafts_when_no_device_is_left() -> None:
    desk = Desk()
    desk.start("s")
    desk.fleet(devices=())
    assert desk.did(PlaceSession) == [PlaceSession("s", 1, "v", "")]
    assert (desk.row("s").next_k, desk.row("s").device) == (0, "")


def test_a_verdict_that_told_the_dead_device_to_draft_is_ours() -> None:
    desk = Desk(devices=("d:1",))
    desk.start("s")
    desk.take(desk.draft("s"))
    row = desk.row("s")
    assert row.next_k == 4
    desk.fleet(devices=("d:2",))
    assert desk.sent(Open) == [("d:2", Open("s", 1, 11))]
    desk.take(desk.verdict(row))
    assert desk.row("s").next_k == 0
    assert desk.row("s").device == "d:2"


def test_absence_right_after_a_start_is_not_death() -> None:
    desk = Desk()
    desk.start("s")
    desk.fleet(devices=(), verifiers=(), gateways=(), trusted=False)
    assert desk.effects == []
    assert desk.session("s").device == "d:1"


def test_a_device_that_has_no_room_or_leaves_is_not_asked_again_at_once() -> None:
    for reason in ("no_capacity", "gone"):
        desk = Desk(devices=("d:1", "e:1"))
        desk.start("s")
        old = desk.session("s").device
        desk.take(desk.resync("s", reason))
        assert desk.session("s").device not in (old, "")
        assert (old, Close("s", 1, "")) in desk.sent(Close)
        assert desk.row("s").next_k == 0


def test_a_session_that_the_only_device_refused_is_offered_again_after_a_while() -> None:
    desk = Desk()
    desk.start("s")
    desk.take(desk.resync("s", "no_capacity"))
    assert desk.session("s").device == ""
    desk.now += 1.0
    desk.fleet()
    assert desk.sent(Open) == []
    desk.now += 5.0
    desk.fleet()
    assert [device for device, _ in desk.sent(Open)] == ["d:1"]


def test_a_dead_verifiers_sessions_move_with_a_new_epoch() -> None:
    desk = Desk(verifiers=("v:1",), prefill_tokens=64)
    desk.start("a", "b")
    (entry,) = desk.take(desk.draft("a"))
    desk.fleet(verifiers=("w:2",))
    assert {(p.epoch, p.verifier) for p in desk.did(PlaceSession)} == {(2, "w")}
    assert {message.epoch for _, message in desk.sent(Open) if isinstance(message, Open)} == {2}
    assert desk.did(AckDraft) == [AckDraft(entry)]
    assert [(row.epoch, row.feed_to, row.next_k) for row in desk.rows] == [(2, 11, 4), (2, 11, 4)]
    assert {stage.verifier for stage in desk.did(Stage)} == {"w"}


def test_nothing_is_kept_of_a_verifier_that_nobody_waits_for() -> None:
    desk = Desk(verifiers=("v:1",))
    desk.start("a")
    desk.core.update_plan_metrics(desk.now)
    rate = "outrider_scheduler_tokens_per_second"
    seen = desk.metrics.registry.get_sample_value
    assert seen(rate, {"verifier": "v", "what": "realised"}) is not None
    desk.fleet(verifiers=("w:2",))
    desk.core.update_plan_metrics(desk.now)
    assert seen(rate, {"verifier": "v", "what": "realised"}) is None
    assert seen(rate, {"verifier": "w", "what": "realised"}) is not None
    desk.fleet(verifiers=("w:2", "v:3"))
    assert desk.did(PlaceSession) == []
    desk.submit("b")
    assert [place.verifier for place in desk.did(PlaceSession)] == ["v"]


def test_or_wait_for_its_return() -> None:
    desk = Desk()
    desk.start("a", "b")
    desk.take(desk.draft("a"), desk.draft("b"))
    desk.fleet(verifiers=())
    assert desk.did(Stage) == []
    desk.tick(after=10.0)
    assert desk.did(Stage) == []
    desk.fleet(verifiers=("v:2",))
    assert [(row.session, row.epoch, row.feed_to, row.tokens) for row in desk.rows] == [
        ("a", 1, 11, ()),
        ("b", 1, 11, ()),
    ]


def test_a_draft_in_hand_survives_its_verifiers_restart() -> None:
    desk = Desk()
    desk.start("a", "b")
    desk.take(desk.draft("a"))
    desk.fleet(verifiers=("v:2",))
    desk.take(desk.draft("b"))
    assert [len(row.tokens) for row in desk.rows] == [4, 4]


def test_a_verifier_that_restarts_quickly_is_offered_its_rows_again() -> None:
    desk = Desk()
    desk.start("a")
    desk.take(desk.draft("a"))
    first = desk.row("a")
    desk.fleet(verifiers=("v:2",))
    assert (desk.row("a").base_len, desk.row("a").feed_to, desk.row("a").tokens) == (11, 11, ())
    desk.take(desk.verdict(first, emitted=3))  # it found the first in its stream after all
    assert desk.session("a").length == 14


def test_a_dead_gateways_sessions_are_closed() -> None:
    desk = Desk()
    desk.start("s")
    desk.fleet(gateways=())
    assert desk.did(End) == []  # its first beat may be on its way
    desk.tick(after=5.0)
    desk.fleet(gateways=("g:2",))
    assert [(end.session, end.close.finish) for end in desk.did(End)] == [("s", "cancel")]
    assert not desk.core.sessions


def test_a_place_that_gets_free_is_given_to_who_has_none() -> None:
    desk = Desk(devices=(beat("draft_worker", "d:1", capacity=1),))
    desk.submit("a")
    a = desk.row("a")
    desk.submit("b")
    assert (desk.session("a").device, desk.session("b").device) == ("d:1", "")
    desk.take(desk.verdict(a, finish="stop"))
    desk.fleet(devices=(beat("draft_worker", "d:1", capacity=1),))
    assert desk.sent(Open) == [("d:1", Open("b", 1, 10))]
