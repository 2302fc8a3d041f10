"""Speed over time and settling, on curves whose values are known."""

import numpy as np
import pytest

from cli.bench.windows.rolling import WIDTH_S, rolling_speed, settling
from loadgen.request import ChatRequest, Chunk, Record


def answered(start: float, gap_s: float, tokens: int, pieces: int) -> Record:
    chunks = [Chunk(start + n * gap_s, "", (0,) * tokens, 0) for n in range(pieces)]
    return Record(ChatRequest("r", "", "", 64), start, start, chunks, chunks[-1].at)


def test_speed_is_tokens_of_a_user_and_second() -> None:
    records = [answered(0.0, 0.5, 2, 41), answered(0.0, 0.25, 3, 81)]  # 4 and 12 tokens/s for 20 s
    times, speeds = rolling_speed(records, 20.0)
    assert times[0] == WIDTH_S
    assert speeds == pytest.approx(8.0)


def test_a_user_counts_only_while_it_is_answered() -> None:
    times, speeds = rolling_speed([answered(0.0, 0.5, 2, 41), answered(10.0, 0.25, 3, 41)], 30.0)
    assert speeds[times <= 10.0] == pytest.approx(4.0)
    assert speeds[times == 14.0] == pytest.approx(8.0)
    assert np.isnan(speeds[times > 20.0 + WIDTH_S]).all()


def test_it_is_back_when_it_stays_within_five_percent_of_the_end() -> None:
    times = np.arange(0.0, 120.5, 0.5)
    shares = np.where((times > 40) & (times <= 52), 0.3, 0.7)
    assert settling(times, shares, 0.0, 40.0).seconds == 0.0
    found = settling(times, shares, 40.0, 80.0)
    assert (found.share, found.seconds) == (pytest.approx(0.7), 12.5)


def test_what_does_not_settle_takes_as_long_as_the_phase() -> None:
    times = np.arange(0.0, 40.5, 0.5)
    shares = np.where(times == 40.0, 0.1, 0.7)
    assert settling(times, shares, 0.0, 40.0).seconds == 40.0
