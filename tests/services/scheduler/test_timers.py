"""Session timers against a simple reference implementation."""

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.timers import MAX_DEAD_ENTRIES, Timers

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 4), st.floats(0, 20)),
        st.tuples(st.just("drop"), st.integers(0, 4), st.just(0.0)),
        st.tuples(st.just("due"), st.just(0), st.floats(0, 4)),
    ),
    max_size=60,
)


@given(STEPS)
def test_a_timer_fires_when_it_was_last_set_to(steps: list[tuple[str, int, float]]) -> None:
    timers, due_at, now = Timers(), {}, 0.0
    for what, number, value in steps:
        name = f"s{number}"
        if what == "set":
            timers.set(name, now + value)
            due_at[name] = now + value
        elif what == "drop":
            timers.drop(name)
            due_at.pop(name, None)
        else:
            now += value
            due = [session for session, at in due_at.items() if at <= now]
            assert sorted(timers.due(now)) == sorted(due)
            due_at = {session: at for session, at in due_at.items() if at > now}
        assert timers.next_at() == min(due_at.values(), default=None)


def test_a_timer_that_moves_back_and_forth_leaves_no_heap_behind() -> None:
    timers = Timers()
    timers.set("s", 1.0)
    for step in range(1000):
        timers.set("s", 2.0 + step)
    assert timers.due(500.0) == []
    assert timers.due(2000.0) == ["s"]
    assert timers.next_at() is None


def test_a_near_timer_after_a_far_one_leaves_no_heap_behind() -> None:
    timers = Timers()
    for now in range(1000):
        for name in "abc":
            timers.set(name, now + 600.0)
            timers.set(name, now + 0.5)
        assert sorted(timers.due(now + 0.5)) == ["a", "b", "c"]
    assert len(timers) <= 2 * 3 + MAX_DEAD_ENTRIES
