"""Two results side by side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadgen.request import ChatRequest, Chunk, Record
from loadgen.results.comparison import Row, compare
from loadgen.results.result_file import SCHEMA, write_result
from loadgen.results.result_reader import LoadedResult, Result, read_all
from loadgen.results.rows import read_rows, write_rows
from loadgen.run.drive import RunState


def records(slower: float, seed: int, count: int = 200) -> list[Record]:
    """Ten a second; first token after 100 ms and something, four more of 20 ms and something."""
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


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.figure: row for row in rows}


def test_a_difference_is_found_and_its_interval_holds_it() -> None:
    rows = by_name(compare(loaded(1.0, 1), loaded(1.5, 2)))
    for figure in ("TTFT (ms), median", "TPOT (ms), median", "end to end (ms), p99"):
        assert rows[figure].low <= 1.5 * 1.01
        assert rows[figure].high >= 1.5 * 0.99
        assert rows[figure].low > 1
    assert rows["tokens/s"].low <= 1 <= rows["tokens/s"].high


def test_no_difference_is_not_found() -> None:
    rows = by_name(compare(loaded(1.0, 1), loaded(1.0, 2)))
    assert rows["TTFT (ms), median"].low <= 1 <= rows["TTFT (ms), median"].high


def test_nothing_completed_is_no_figure() -> None:
    empty = replace(loaded(1.0, 1), records=[])
    assert np.isnan(compare(empty, loaded(1.0, 1))[0].ratio)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    mine, course = records(1.0, 3, 20), RunState()
    write_rows(tmp_path / "a.requests.jsonl", mine, course.started)
    with (tmp_path / "a.requests.jsonl").open() as file:
        again = read_rows(file)
    assert [len(record.chunks) for record in again] == [5] * 20
    assert again[7].chunks[0].at == pytest.approx(mine[7].chunks[0].at, abs=1e-6)
    body = {"window": {"start": 0.0, "end": 2.0}, "requests_file": "a.requests.jsonl"}
    write_result(tmp_path / "a.json", "load", {"label": "mine"}, body)
    (result,) = read_all([tmp_path / "a.json"])
    assert (result.label, len(result.counted)) == ("mine", 20)
