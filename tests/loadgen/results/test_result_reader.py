"""Reading result files: every error is one line that names the file."""

from pathlib import Path

import pytest

from loadgen.report.page import build
from loadgen.results.result_reader import ReportError, read_all
from tests.loadgen.sample_results import write_run


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "not a result file"),
        ('{"schema": 2, "kind": "load"}', "schema 2"),
        ('{"schema": 1, "kind": "orchestration"}', "kind 'orchestration'"),
        ('{"schema": 1, "kind": "load", "window": {"start": "x", "end": 1}}', "window.start: "),
        ('{"schema": 1, "kind": "sweep", "points": [{}]}', r"points.0.figures: Field required"),
    ],
)
def test_an_invalid_result_is_named_in_one_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=rf"^\S*bad\.json: .*{why}[^\n]*$"):
        build([path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_missing_file_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"^\S*gone\.json: No such file or directory$"):
        build([tmp_path / "gone.json"], tmp_path / "report.html")
    with pytest.raises(ReportError, match="no result file"):
        build([], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("name", "line", "why"),
    [
        ("run.requests.jsonl", '{"id": "a"}', "'max_tokens' is missing"),
        ("run.requests.jsonl", "{", "Expecting property name"),
        ("run.spans.jsonl", '{"role": "verifier"}', "missing"),
        ("run.spans.jsonl", "[]", "mapping"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, name: str, line: str, why: str) -> None:
    path = write_run(tmp_path / "run.json")
    beside = tmp_path / name
    lines = beside.read_text().splitlines()
    beside.write_text("\n".join([lines[0], line, *lines[1:]]))
    with pytest.raises(ReportError, match=rf"^\S*{name}: line 2: .*{why}[^\n]*$"):
        read_all([path])
