"""The device's state machine with late, repeated and reordered messages, gaps and unknown sessions."""

import itertools
import random
from dataclasses import replace

import pytest

from services.draft_worker.sessions import (
    CATCH_UP,
    CountRefusal,
    DraftSessions,
    Effect,
    Forget,
    KeepShare,
    SendToScheduler,
    SetThreads,
    Start,
)
from shared.compute.drafter import DraftResult
from shared.protocol import wire
from shared.protocol.messages import Cancel, Close, Draft, Open, Resync, Share, Tune, Verdict
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams

DEVICE = "d:7"
SURVIVAL = bytes((250, 240, 90, 20))
PROMPT = (1, 2, 3)


def open_of(committed: tuple[int, ...] = (), epoch: int = 1, vocab: int = 100, session: str = "s") -> Open:
    """As the broker sends it, with the log."""
    spec = SessionSpec(session, PROMPT, SamplingParams(1, vocab), 50, (), "g:1", 1000)
    return Open(session, epoch, 3 + len(committed), spec=wire.encode_spec(spec), committed=committed)


def verdict(base: int, tokens: tuple[int, ...], next_k: int = 4, epoch: int = 1, finish: str = "") -> Verdict:
    return Verdict(
        "s",
        epoch,
        5,
        base,
        tokens,
        base + len(tokens),
        next_k=next_k,
        finish=finish,  # type: ignore[arg-type]
    )


def machine(trees: bool = False) -> DraftSessions:
    return DraftSessions(DEVICE, vocab=100, capacity=2, trees=trees)


def opened(committed: tuple[int, ...] = (), trees: bool = False) -> DraftSessions:
    """A machine whose session "s" has its log and has caught up."""
    sessions = machine(trees)
    start(sessions.receive(open_of(committed), 0.0), 3 + len(committed), 0)
    done = sessions.finished(DraftResult("s", 3 + len(committed), (), b"", 10), 0)
    assert done == [SendToScheduler(Resync("s", 1, DEVICE, 3 + len(committed), "ready"))]
    return sessions


def start(effects: list[Effect], length: int, k: int) -> Start:
    """The one effect is a start of this length and k."""
    (effect,) = effects
    assert isinstance(effect, Start)
    assert (len(effect.request.ids), effect.request.k) == (length, k)
    return effect


def test_open_brings_the_log_the_device_catches_up_and_says_ready() -> None:
    opened()


def test_a_verdict_starts_a_draft_and_the_draft_is_sent() -> None:
    sessions = opened()
    effect = start(sessions.receive(verdict(3, (9,)), 2.5), 4, 4)
    assert effect.request.ids == (*PROMPT, 9)
    assert effect.since == 2.5
    (said,) = sessions.finished(DraftResult("s", 4, (5, 6, 7, 8), SURVIVAL, 800), 30)
    assert said == SendToScheduler(Draft("s", 1, 6, 4, DEVICE, (5, 6, 7, 8), SURVIVAL, (), 800, 30))


def test_a_verdict_says_where_the_draft_stops() -> None:
    (effect,) = opened().receive(replace(verdict(3, (9,)), stop_below=77), 0.0)
    assert isinstance(effect, Start)
    assert effect.request.stop_below == 77


def test_who_was_asked_answers_with_no_tokens_as_well() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 0.0)
    (said,) = sessions.finished(DraftResult("s", 4, (), b"", 10), 0)
    assert said == SendToScheduler(Draft("s", 1, 6, 4, DEVICE, (), b"", (), 10))


def test_next_k_zero_is_fed_many_at_a_time_and_says_nothing() -> None:
    sessions = opened()
    for length in range(3, 2 + CATCH_UP):
        assert sessions.receive(verdict(length, (9,), next_k=0), 0.0) == []
    start(sessions.receive(verdict(2 + CATCH_UP, (9,), next_k=0), 0.0), 3 + CATCH_UP, 0)
    assert sessions.finished(DraftResult("s", 3 + CATCH_UP, (), b"", 10), 0) == []
    assert sessions.receive(verdict(3 + CATCH_UP, (9,), next_k=0), 0.0) == []


def test_next_k_zero_takes_the_place_of_a_draft_under_way() -> None:
    sessions = opened()
    start(sessions.receive(verdict(3, (9,)), 0.0), 4, 4)
    start(sessions.receive(verdict(4, (9,), next_k=0), 0.0), 5, 0)


def test_a_draft_that_overtook_the_prefill_is_sent_after_ready() -> None:
    sessions = machine()
    start(sessions.receive(open_of(), 0.0), 3, 0)
    start(sessions.receive(verdict(3, (9,)), 0.0), 4, 4)
    said = [
        effect.message
        for effect in sessions.finished(DraftResult("s", 4, (5,), b"\xff", 10), 0)
        if isinstance(effect, SendToScheduler)
    ]
    assert [type(message) for message in said] == [Resync, Draft]


def test_the_log_may_hold_what_the_verdict_is_about_to_say() -> None:
    """A token was committed before the log was sent, and its verdict comes as well."""
    sessions = opened((9,))
    start(sessions.receive(verdict(3, (9,)), 0.0), 4, 4)
    assert sessions.receive(verdict(3, (9,)), 0.0) == [CountRefusal("repeated")]


def test_late_and_repeated_verdicts_change_nothing() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 0.0)
    sessions.receive(verdict(4, (8, 7)), 0.0)
    assert sessions.receive(verdict(3, (9,)), 0.0) == [CountRefusal("late")]
    assert sessions.receive(verdict(4, (8, 7)), 0.0) == [CountRefusal("repeated")]
    assert sessions.receive(verdict(4, (8, 7), next_k=0), 0.0) == [CountRefusal("late")]
    assert sessions.tokens == 6


def test_an_overlapping_verdict_appends_what_is_new() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 0.0)
    effect = start(sessions.receive(verdict(3, (9, 8, 7)), 0.0), 6, 4)
    assert effect.request.ids == (*PROMPT, 9, 8, 7)


def test_a_gap_is_closed_by_another_open() -> None:
    sessions = opened()
    assert sessions.receive(verdict(5, (7,)), 0.0) == [
        CountRefusal("gap"),
        SendToScheduler(Resync("s", 1, DEVICE, 3, "gap")),
    ]
    assert sessions.receive(verdict(6, (6,)), 0.0) == []  # asked already
    assert start(sessions.receive(open_of((9, 8, 7, 6)), 0.0), 7, 0).request.ids == (*PROMPT, 9, 8, 7, 6)
    start(sessions.receive(verdict(7, (5,)), 0.0), 8, 4)


def test_a_verdict_that_contradicts_has_the_log_sent_anew() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 0.0)
    effects = sessions.receive(verdict(3, (8, 7)), 0.0)
    assert effects == [CountRefusal("conflict"), SendToScheduler(Resync("s", 1, DEVICE, 4, "gap"))]
    assert sessions.finished(DraftResult("s", 4, (5,), b"\xff", 10), 0) == []  # drafted after what was wrong
    start(sessions.receive(open_of((8, 7)), 0.0), 5, 0)


def test_a_result_that_was_overtaken_is_not_sent() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 0.0)
    sessions.receive(verdict(4, (8,)), 0.0)
    assert sessions.finished(DraftResult("s", 4, (5,), b"\xff", 10), 0) == []
    assert sessions.finished(DraftResult("unknown", 4, (5,), b"\xff", 10), 0) == []


def test_unknown_sessions_are_reported_lost_once() -> None:
    sessions = machine()
    effects = sessions.receive(verdict(3, (9,)), 0.0)
    assert effects == [CountRefusal("unknown"), SendToScheduler(Resync("s", 1, DEVICE, 4, "lost"))]
    assert sessions.receive(verdict(4, (9,)), 0.0) == [CountRefusal("late")]
    start(sessions.receive(open_of((9,)), 0.0), 4, 0)


def test_close_frees_and_later_verdicts_are_no_surprise() -> None:
    sessions = opened()
    assert sessions.receive(Close("s", 1, "stop"), 0.0) == [Forget("s")]
    assert sessions.receive(Close("s", 1, "stop"), 0.0) == []
    assert sessions.receive(verdict(3, (9,)), 0.0) == [CountRefusal("late")]
    assert len(sessions) == 0


def test_a_verdict_with_a_finish_frees() -> None:
    sessions = opened()
    assert sessions.receive(verdict(3, (9,), finish="length"), 0.0) == [Forget("s")]


def test_a_second_open_answers_ready_again() -> None:
    sessions = opened()
    start(sessions.receive(open_of(epoch=2), 0.0), 3, 0)
    assert sessions.finished(DraftResult("s", 3, (), b"", 10), 0) == [
        SendToScheduler(Resync("s", 2, DEVICE, 3, "ready"))
    ]
    assert sessions.receive(open_of(), 0.0) == [CountRefusal("stale")]
    start(sessions.receive(open_of((9, 8), epoch=2), 0.0), 5, 0)


def test_a_second_open_does_not_disturb_a_draft_under_way() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 0.0)
    assert sessions.receive(open_of((9,)), 0.0) == []
    effects = sessions.finished(DraftResult("s", 4, (5,), b"\xff", 10), 0)
    assert [type(effect.message) for effect in effects if isinstance(effect, SendToScheduler)] == [
        Resync,
        Draft,
    ]


def test_no_room_is_said_and_the_session_dropped() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 0.0)
    assert sessions.refused("s") == [SendToScheduler(Resync("s", 1, DEVICE, 4, "no_capacity")), Forget("s")]
    assert sessions.refused("s") == []
    assert sessions.receive(verdict(4, (9,)), 0.0) == [CountRefusal("late")]


def test_a_failed_request_is_given_back() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 0.0)
    effects = sessions.finished(DraftResult("s", 4, (), b"", 10, "no KV cell is free"), 0)
    assert effects == [SendToScheduler(Resync("s", 1, DEVICE, 4, "no_capacity")), Forget("s")]


def test_more_sessions_than_there_is_room_for() -> None:
    sessions = machine()
    sessions.receive(open_of(session="a"), 0.0)
    sessions.receive(open_of(session="b"), 0.0)
    assert sessions.receive(open_of(session="c"), 0.0) == [
        SendToScheduler(Resync("c", 1, DEVICE, 3, "no_capacity"))
    ]
    assert len(sessions) == 2


@pytest.mark.parametrize(
    "bad",
    [
        open_of((100,)),
        open_of(vocab=101),
        Open("s", 1, 3),
        Open("s", 1, 3, spec=b"\x02garbage"),
        Open("s", 1, 3, spec=b"\x02\x90"),
    ],
    ids=["token", "vocabulary", "no log", "garbage", "not a log"],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_log_that_cannot_be_drafted_for_never_reaches_the_drafter(bad: Open, known: bool) -> None:
    sessions = opened() if known else machine()
    effects = sessions.receive(bad, 0.0)
    assert SendToScheduler(Resync("s", 1, DEVICE, bad.base_len, "no_capacity")) in effects
    assert [type(effect) for effect in effects] == [
        CountRefusal,
        SendToScheduler,
        *([Forget] if known else []),
    ]
    assert len(sessions) == 0


def test_hostile_verdicts() -> None:
    sessions = opened()
    assert sessions.receive(Verdict("s", 1, 1, 3, (9,), 77), 0.0) == [CountRefusal("verdict")]
    assert sessions.receive(Verdict("s", 1, 1, 3, (), 3, status="stale"), 0.0) == [CountRefusal("verdict")]
    assert sessions.receive(Cancel("s"), 0.0) == [CountRefusal("kind")]
    effects = sessions.receive(verdict(3, (100,)), 0.0)
    assert effects[0] == CountRefusal("token")
    assert Forget("s") in effects


def test_tune() -> None:
    assert machine().receive(Tune(3), 0.0) == [SetThreads(3)]
    assert machine().receive(Share(3000), 0.0) == [KeepShare(3000)]


def test_leaving_gives_every_session_back() -> None:
    sessions = opened()
    assert sessions.release() == [SendToScheduler(Resync("s", 1, DEVICE, 3, "gone")), Forget("s")]
    assert len(sessions) == 0


def test_silent_sessions_are_asked_about_and_asked_for_again() -> None:
    sessions = opened()
    sessions.receive(verdict(3, (9,)), 5.0)
    assert sessions.query_silent(5.0, 15.0) == []
    assert sessions.query_silent(6.0, 16.0) == [SendToScheduler(Resync("s", 1, DEVICE, 4, "silent"))]
    assert sessions.query_silent(6.0, 16.5) == []
    sessions.receive(verdict(9, (9,)), 17.0)
    sessions.receive(verdict(10, (9,)), 30.0)  # nothing counts but the Open that was asked for
    assert sessions.query_silent(20.0, 30.0) == [SendToScheduler(Resync("s", 1, DEVICE, 4, "gap"))]
    assert sessions.receive(Close("s", 1, ""), 31.0) == [Forget("s")]


def test_only_fresh_messages_are_worth_a_second_try() -> None:
    sessions = opened()
    draft = Draft("s", 1, 1, 3, DEVICE, (5,), bytes(1))
    assert sessions.is_current(draft)
    sessions.receive(verdict(3, (9,)), 0.0)
    assert not sessions.is_current(draft)
    assert not sessions.is_current(Resync("s", 1, DEVICE, 3, "ready"))
    assert sessions.is_current(Resync("x", 1, DEVICE, 3, "gone"))


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_any_repeats_ends_at_the_truth(seed: int) -> None:
    """Verdicts dropped, doubled and shuffled, Opens late: what is drafted on is always a prefix of the truth."""
    rng = random.Random(seed)
    truth = tuple(rng.randrange(100) for _ in range(40))
    cuts = sorted({0, 40, *(rng.randrange(1, 40) for _ in range(12))})
    verdicts = [verdict(3 + a, truth[a:b], next_k=rng.randrange(4)) for a, b in itertools.pairwise(cuts)]
    sent = [v for v in verdicts for _ in range(rng.choice((0, 1, 1, 2)))]
    for i in range(len(sent)):
        j = min(len(sent) - 1, i + rng.randrange(3))
        sent[i], sent[j] = sent[j], sent[i]
    sessions, has_sent = opened(), False
    for message in [*sent, verdicts[-1]]:
        for effect in sessions.receive(message, 0.0):
            if isinstance(effect, Start):
                assert effect.request.ids == (*PROMPT, *truth)[: len(effect.request.ids)]
            has_sent = has_sent or isinstance(effect, SendToScheduler)
        if has_sent and rng.random() < 0.5:
            sessions.receive(open_of(truth), 0.0)
            has_sent = False
    if has_sent:
        sessions.receive(open_of(truth), 0.0)
    assert sessions.tokens == 43
