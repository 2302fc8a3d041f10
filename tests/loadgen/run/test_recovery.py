"""Runs that are killed: their finished requests are kept beside the result, and recovered."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadgen.__main__ import app
from loadgen.mock_server import Mock
from loadgen.results.partial_rows import PartialRows, partial_file
from loadgen.results.result_reader import ReportError, read_all
from loadgen.run.options import RunOptions
from loadgen.run.plan import make_plan
from loadgen.run.recovery import recover
from loadgen.run.runner import Endpoint
from tests.loadgen.mock_runs import served
from tests.loadgen.sample_results import STARTED, records

OPTIONS = RunOptions(warmup_s=1.0, goodput="ttft:500", assertions=["request_throughput>0.5"], label="long")


def killed(out: Path, options: RunOptions = OPTIONS) -> int:
    """Write the partial rows of a run, the last line incomplete. Returns the number of complete ones."""
    plan = make_plan(options, Endpoint("http://127.0.0.1:8000"), "m")
    rows = PartialRows(out, plan.config)
    finished = records(2)
    for record in finished:
        rows.add(record, STARTED)
    rows.close(keep=True)
    file = partial_file(out)
    file.write_text(file.read_text()[:-9])
    return len(finished) - 1


def test_a_killed_run_is_recovered_as_a_partial_result(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    count = killed(out)
    outcome = recover(out)
    (result,) = read_all([out])
    assert (result.label, result.result.partial, result.result.valid) == ("long", True, True)
    assert len(result.records) == count
    expected = sorted(records(2)[:-1], key=lambda record: record.scheduled)
    assert [r.scheduled for r in result.records] == [pytest.approx(r.scheduled - STARTED) for r in expected]
    assert result.window.start == 1.0
    assert 0 < outcome.metrics["completed"] < count  # those due in the warm-up are not counted
    assert outcome.metrics["request_goodput"] > 0
    assert outcome.failed == []
    assert not partial_file(out).exists()


def test_every_finished_request_is_in_the_file_at_once(tmp_path: Path) -> None:
    rows = PartialRows(tmp_path / "load.json", {})
    for number, record in enumerate(records(1), 1):
        rows.add(record, STARTED)
        assert len(partial_file(tmp_path / "load.json").read_text().splitlines()) == 1 + number
    rows.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_error_ends_the_file_and_not_the_run(tmp_path: Path) -> None:
    rows = PartialRows(tmp_path / "gone" / "load.json", {})
    for record in records(1):
        rows.add(record, STARTED)
    rows.close(keep=True)
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_a_killed_run_names_the_way_out(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    killed(out)
    with pytest.raises(ReportError, match=r"load\.json: No such file.*`loadgen recover \S*load\.json`"):
        read_all([out])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no run with this --out was killed"),
        ("", "not the rows of a run"),
        ("[]\n", "not the rows of a run"),
        ('{"config": {"warmup": 0}, "started": ""}\n', "not the rows of a run: KeyError: 'cooldown'"),
    ],
)
def test_rows_that_cannot_be_recovered_are_named_in_one_line(
    tmp_path: Path, text: str | None, why: str
) -> None:
    out = tmp_path / "load.json"
    if text is not None:
        partial_file(out).write_text(text)
    result = CliRunner().invoke(app, ["recover", str(out)])
    assert result.exit_code == 2
    assert why in result.output
    assert result.output.count("\n") == 1


def test_a_run_without_finished_requests_leaves_no_file(tmp_path: Path) -> None:
    PartialRows(tmp_path / "load.json", {}).close(keep=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
async def test_sigkill_loses_no_finished_request(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    async with served(Mock(workers=9, service_s=0.01)) as url:
        words = ("run", "--url", url, "--rate", "50", "--duration", "60", "--out", str(out), "--quiet")
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "loadgen", *words)
        async with asyncio.timeout(60):
            while not partial_file(out).exists() or partial_file(out).read_text().count("\n") < 20:
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    lines = partial_file(out).read_text().splitlines()
    assert CliRunner().invoke(app, ["recover", str(out)]).exit_code == 0
    found = json.loads(out.read_text())
    assert found["partial"]
    assert found["figures"]["completed"] == len(lines) - 1
    assert found["config"]["rate"] == 50.0
