"""Staging: batches ahead, full streams, policy changes, traces and metrics."""

from services.scheduler.effects import Persist, SendToDevice, SendToVerifier, Stage, Trace
from shared.protocol.messages import Control, Tune
from tests.services.scheduler.desk import Desk


def test_batches_are_numbered_and_carry_the_term() -> None:
    desk = Desk(devices=())
    desk.submit("s")
    numbers = []
    for _ in range(3):
        (stage,) = desk.did(Stage)
        assert stage.batch.term == 1
        numbers.append(stage.batch.batch)
        desk.take(desk.verdict(desk.row("s")))
    assert numbers == sorted(set(numbers))


def test_cyclic_k_stages_one_batch_ahead_and_no_more() -> None:
    desk = Desk("cyclic-k")
    desk.start("a", "b", "c")
    assert desk.take(*(desk.draft(name) for name in "abc"))
    assert [[row.session for row in stage.batch.rows] for stage in desk.did(Stage)] == [["a", "c"], ["b"]]
    desk.submit("d")
    assert desk.rows == []  # two are ahead


def test_a_full_stream_puts_everything_back_and_waits_a_moment() -> None:
    desk = Desk()
    desk.start("a", "b")
    entries = desk.take(desk.draft("a"), desk.draft("b", tokens=2))
    (stage,) = desk.did(Stage)
    desk.core.on_stage_refused(stage, desk.now)
    desk.tick()
    assert desk.rows == []
    assert all(desk.core.holds(entry) for entry in entries)
    assert desk.core.next_wake() == desk.now + 0.05
    desk.tick(after=0.06)
    (again,) = desk.did(Stage)
    assert [row.tokens for row in again.batch.rows] == [row.tokens for row in stage.batch.rows]
    assert again.drafts == stage.drafts


def test_a_full_stream_at_a_chunk() -> None:
    desk = Desk()
    desk.submit("s", prompt=100)
    (stage,) = desk.did(Stage)
    desk.core.on_stage_refused(stage, desk.now)
    desk.tick(after=0.06)
    assert desk.row("s").feed_to == 64


def test_another_policy_is_in_force_from_each_sessions_next_round() -> None:
    desk = Desk("fixed-k", k=4)
    desk.start("a", "b")
    desk.take(desk.draft("a"), Control("greedy-batch"))
    assert desk.did(Persist) == [
        Persist(
            {
                "policy": "greedy-batch",
                "k": "0",
                "verifier_threads": "0",
                "draft_threads": "0",
                "window": "none",
                "bandwidth": "policy",
                "source": "control",
            }
        )
    ]
    desk.take(desk.draft("b"))  # was asked for under the old policy
    assert [len(row.tokens) for row in desk.rows] == [4, 4]
    assert [row.next_k for row in desk.rows] == [0, 0]
    desk.take(*(desk.verdict(row, emitted=5, accepted=4) for row in desk.rows))
    assert [row.tokens for row in desk.rows] == [(), ()]
    desk.take(Control("cyclic-k", k=7), *(desk.verdict(row) for row in desk.rows))
    assert [row.next_k for row in desk.rows] == [7, 7]
    desk.take(Control("fixed-k"), *(desk.verdict(row) for row in desk.rows))
    assert desk.core.policy.k == 4  # as set


def test_an_unknown_policy_changes_nothing() -> None:
    desk = Desk()
    desk.take(Control("best"))
    assert (desk.core.policy.name, desk.effects) == ("fixed-k", [])
    assert desk.dropped("control", "unknown policy") == 1


def test_a_scheduler_that_starts_keeps_the_policy() -> None:
    desk = Desk("fixed-k")
    desk.take(Control("cyclic-k", k=6, verifier_threads=3))
    (kept,) = desk.did(Persist)
    other = Desk("autoregressive")
    other.core.restore(kept.fields)
    assert (other.core.policy.name, other.core.policy.k) == ("cyclic-k", 6)
    other.fleet(verifiers=("v:2",))
    assert other.did(SendToVerifier) == [SendToVerifier("v", Tune(3))]


def test_a_window_controller_is_in_force_until_another_one_or_none_is_named() -> None:
    desk = Desk("fixed-k", k=4)
    desk.start("a")
    desk.take(Control("", window="static", k=2), desk.draft("a"))
    (kept,) = desk.did(Persist)
    assert (kept.fields["policy"], kept.fields["window"]) == ("fixed-k", "static")
    assert desk.row("a").next_k == 2
    desk.take(Control("fixed-k", k=5), desk.verdict(desk.row("a")))  # the window goes on
    desk.take(desk.draft("a", tokens=2))
    assert desk.row("a").next_k == 2
    other = Desk("fixed-k")
    other.core.restore(kept.fields)
    window = other.core._state.window
    assert window is not None
    other.core.restore(kept.fields)  # the next term
    assert other.core._state.window is window  # with what it has learnt
    desk.take(Control("", window="none"), desk.verdict(desk.row("a")))
    desk.take(desk.draft("a", tokens=2))
    assert desk.row("a").next_k == 5


def test_an_unknown_window_controller_changes_nothing() -> None:
    desk = Desk("fixed-k")
    desk.take(Control("cyclic-k", window="awk"))
    assert (desk.core.policy.name, desk.effects) == ("fixed-k", [])
    assert desk.dropped("control", "unknown policy") == 1


def test_threads_are_passed_on_to_those_here_and_those_to_come() -> None:
    desk = Desk(devices=("d:1", "e:1"))
    desk.take(Control("", verifier_threads=2, draft_threads=1))
    assert desk.core.policy.name == "fixed-k"
    assert desk.did(SendToVerifier) == [SendToVerifier("v", Tune(2))]
    assert desk.did(SendToDevice) == [SendToDevice("d:1", Tune(1)), SendToDevice("e:1", Tune(1))]
    desk.fleet(devices=("d:1", "e:2"))
    assert desk.did(SendToDevice) == [SendToDevice("e:2", Tune(1))]
    assert desk.did(SendToVerifier) == []


def test_waits_are_traced_when_asked() -> None:
    desk = Desk(trace=True)
    desk.start("s")
    desk.take(desk.draft("s"))
    (trace,) = desk.did(Trace)
    (span,) = trace.spans
    assert (span.kind, span.session, span.start_us) == ("wait", "s", int(desk.now * 1e6))


def test_what_passes_cost_is_learnt() -> None:
    desk = Desk(devices=())
    desk.submit("a", "b")
    for round_ in range(12):
        (stage,) = desk.did(Stage)
        number = stage.batch.batch
        desk.take(*(desk.verdict(row, verify_us=30_000 + round_, batch=number) for row in desk.rows))
    costs = desk.core._state.estimates.verifier("v")
    for law in (costs.any.law(), costs.decoding.law()):
        assert law is not None
        assert 25 < law.cost_ms([(1, 20), (1, 20)]) < 35


def test_sessions_are_counted_by_phase() -> None:
    desk = Desk()
    desk.start("a", "b")
    desk.take(desk.draft("a"))
    sample = desk.metrics.registry.get_sample_value
    assert sample("outrider_scheduler_sessions", {"phase": "drafting"}) == 1
    assert sample("outrider_scheduler_sessions", {"phase": "ready"}) == 1
