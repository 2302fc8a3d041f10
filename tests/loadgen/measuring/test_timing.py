"""Timings on a clock that the measured calls move."""

from loadgen.measuring.timing import MIN_TIMINGS, time_s, times_s


class Work:
    """A call that takes 1 s, then 2 s, then 3 s; its reset takes 100 s."""

    def __init__(self) -> None:
        self.now_s, self.calls, self.resets = 0.0, 0, 0

    def clock(self) -> float:
        return self.now_s

    def run(self) -> None:
        self.calls += 1
        self.now_s += self.calls

    def reset(self) -> None:
        self.resets += 1
        self.now_s += 100


def test_one_call_is_timed() -> None:
    work = Work()
    assert time_s(work.run, work.clock) == 1.0


def test_warm_ups_are_left_out_and_resets_are_not_timed() -> None:
    work = Work()
    assert times_s(work.run, 3, warm_ups=2, reset=work.reset, clock=work.clock) == [3.0, 4.0, 5.0]
    assert work.resets == 5


def test_a_limit_ends_the_repeats_but_not_before_there_are_enough() -> None:
    work = Work()
    assert times_s(work.run, 9, warm_ups=1, limit_s=0.0, clock=work.clock) == [2.0, 3.0, 4.0]
    assert work.calls == 1 + MIN_TIMINGS
    work = Work()
    assert len(times_s(work.run, 9, warm_ups=1, limit_s=20.0, clock=work.clock)) == 5  # 1 + ... + 6 s
