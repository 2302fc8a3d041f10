import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from loadgen.drive import Course
from loadgen.options import Asked, settle
from loadgen.run import Endpoint, Outcome, write
from shared.protocol.messages import Span
from tests.loadgen.made_up import STARTED, records, spans


def test_a_run_writes_all_its_files_to_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "load.json"
    course = Course(records=records(1), started=STARTED)
    told = [Span(**span) for span in spans(1)]
    plan = settle(Asked(), Endpoint("http://127.0.0.1:8000"), "m")
    write(Outcome({}, [], [], {"valid": True}, told), plan, course, out)
    assert json.loads(out.read_text())["requests_file"] == "load.requests.jsonl"
    rows = [json.loads(line) for line in (out.parent / "load.requests.jsonl").read_text().splitlines()]
    assert len(rows) == len(course.records)
    assert len((out.parent / "load.spans.jsonl").read_text().splitlines()) == len(told)


def test_a_result_says_when_by_the_clock_its_second_0_was(tmp_path: Path) -> None:
    course = Course(started=time.perf_counter() - 3600)
    plan = settle(Asked(), Endpoint("http://127.0.0.1:8000"), "m")
    write(Outcome({}, [], [], {}), plan, course, tmp_path / "load.json")
    started = datetime.fromisoformat(json.loads((tmp_path / "load.json").read_text())["started"])
    assert abs(datetime.now(UTC) - started - timedelta(hours=1)) < timedelta(minutes=1)
