"""What is said of controllers: ratios to the fixed length, regret to the oracle, means and worst cells."""

import pytest

from cli.bench.windows.cells import Cell
from cli.bench.windows.comparison import CellResult, Metrics, mean_speed, summary
from loadgen.metrics.summary import Window
from loadgen.request import ChatRequest, Chunk, Record


def result(rtt_ms: float, **speeds: float) -> CellResult:
    return CellResult(
        Cell("pair", rtt_ms, 1.0), 2.0, {name: Metrics(speed, 10 * speed) for name, speed in speeds.items()}
    )


def test_ratios_and_regrets_are_means_over_cells_with_the_worst_named() -> None:
    cells = [result(5, static=10, goodput=12, oracle=16), result(200, static=10, goodput=9, oracle=10)]
    row = summary(cells, "goodput")
    assert row["speed"] == row["throughput"] == pytest.approx((1.2 + 0.9) / 2)
    assert (row["speed_least"], row["speed_least_at"]) == (pytest.approx(0.9), "pair, 200 ms, load 1")
    assert row["speed_regret"] == pytest.approx((0.25 + 0.1) / 2)
    assert (row["speed_regret_most"], row["speed_regret_most_at"]) == (
        pytest.approx(0.25),
        "pair, 5 ms, load 1",
    )


def test_without_the_oracle_there_is_no_regret() -> None:
    row = summary([result(5, static=10, ema=11)], "ema")
    assert row["speed"] == pytest.approx(1.1)
    assert "speed_regret" not in row


def test_speed_is_the_mean_over_requests_that_are_due_in_the_window() -> None:
    def record(due: float, gap_s: float, count: int = 5) -> Record:
        chunks = [Chunk(due + 1 + n * gap_s, "", (0,), 0) for n in range(count)]
        request = ChatRequest("r", "", "", 64)
        return Record(request, due, due, chunks, chunks[-1].at, "length", completion_tokens=count)

    records = [record(1, 0.1), record(2, 0.05), record(2, 0.05, count=1), record(9, 0.01)]
    assert mean_speed(records, Window(0.0, 5.0)) == pytest.approx((10 + 20) / 2)
