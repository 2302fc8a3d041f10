"""Comparison of two results."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadgen.request import ChatRequest, Chunk, Record
from loadgen.results.comparison import MetricComparison, compare
from loadgen.results.result_file import SCHEMA, write_result
from loadgen.results.result_reader import LoadedResult, Result, read_all
from loadgen.results.rows import read_rows, write_rows
from loadgen.run.drive import RunState


def records(slower: float, seed: int, count: int = 200) -> list[Record]:
    """Ten requests per second: first token after about 100 ms, then four more about 20 ms apart."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        at = number / 10
        first = at + slower * rng.uniform(0.09, 0.11)
        times = [first, *(first + slower * np.cumsum(rng.uniform(0.018, 0.022, 4)))]
        request = ChatRequest(f"r{number}", "m", "p", 5)
        made.append(Record(request, at, at, [Chunk(t, "", (1,), 0) for t in times], times[-1], "stop"))
    return made


def loaded(slower: float, seed: int) -> LoadedResult:
    found = {"schema": SCHEMA, "kind": "load", "window": {"start": 0.0, "end": 20.0}}
    return LoadedResult(Path("a.json"), "a", Result.model_validate(found), records(slower, seed))


def by_name(rows: list[MetricComparison]) -> dict[str, MetricComparison]:
    return {row.metric: row for row in rows}


def test_the_interval_contains_the_true_ratio() -> None:
    rows = by_name(compare(loaded(1.0, 1), loaded(1.5, 2)))
    for figure in ("TTFT (ms), median", "TPOT (ms), median", "end to end (ms), p99"):
        assert rows[figure].low <= 1.5 * 1.01
        assert rows[figure].high >= 1.5 * 0.99
        assert rows[figure].low > 1
    assert rows["tokens/s"].low <= 1 <= rows["tokens/s"].high


def test_equal_results_have_an_interval_around_one() -> None:
    rows = by_name(compare(loaded(1.0, 1), loaded(1.0, 2)))
    assert rows["TTFT (ms), median"].low <= 1 <= rows["TTFT (ms), median"].high


def test_without_completed_requests_ratios_are_nan() -> None:
    empty = replace(loaded(1.0, 1), records=[])
    assert np.isnan(compare(empty, loaded(1.0, 1))[0].ratio)


def test_written_rows_are_read_again(tmp_path: Path) -> None:
    mine, state = records(1.0, 3, 20), RunState()
    write_rows(tmp_path / "a.requests.jsonl", mine, state.started)
    with (tmp_path / "a.requests.jsonl").open() as file:
        again = read_rows(file)
    assert [len(record.chunks) for record in again] == [5] * 20
    assert again[7].chunks[0].at == pytest.approx(mine[7].chunks[0].at, abs=1e-6)
    body = {"window": {"start": 0.0, "end": 2.0}, "requests_file": "a.requests.jsonl"}
    write_result(tmp_path / "a.json", "load", {"label": "mine"}, body)
    (result,) = read_all([tmp_path / "a.json"])
    assert (result.label, len(result.counted)) == ("mine", 20)
