"""`loadgen run` from its options to its files, with faults in between."""

import asyncio
import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from loadgen.commands.run import run_and_write
from loadgen.mock_server import Mock
from loadgen.run.options import RunOptions
from tests.loadgen.mock_runs import served
from tests.loadgen.scripted_server import said, speaks, sse


async def ended_with(code: int, options: RunOptions, out: Path) -> None:
    with pytest.raises(typer.Exit) as exit_:
        await run_and_write(replace(options, out=out, quiet=True))
    assert exit_.value.exit_code == code


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.with_suffix(".requests.jsonl").read_text().splitlines()]


async def test_a_folder_as_out_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await ended_with(2, RunOptions(url="http://127.0.0.1:9"), tmp_path)
    assert f"--out {tmp_path} is a folder" in capsys.readouterr().err


async def test_a_misspelt_metric_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(Mock()) as url:
        await ended_with(2, RunOptions(url=url, assertions=["p99_tttf_ms<5"]), tmp_path / "load.json")
    assert "--assert p99_tttf_ms < 5: unknown metric 'p99_tttf_ms'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


async def test_a_deleted_folder_does_not_lose_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    out = tmp_path / "results" / "load.json"
    async with served(Mock(workers=9, service_s=0.02)) as url:
        running = asyncio.create_task(
            ended_with(
                2, RunOptions(url=url, plain=True, rate_per_s=50.0, requests=10, max_dispatch_ms=1e3), out
            )
        )
        while not out.parent.is_dir():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        shutil.rmtree(out.parent)
        out.parent.write_text("a file now")
        await running
    (folder,) = temporary.iterdir()
    assert f"the result is in {folder / 'load.json'}" in capsys.readouterr().err
    assert json.loads((folder / "load.json").read_text())["figures"]["completed"] == 10
    assert len(rows(folder / "load.json")) == 10


async def test_an_invalid_stream_is_a_row_of_the_result(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    async with speaks(sse(said("a"), {"choices": "?"})) as url:
        await ended_with(1, RunOptions(url=url, model="m", plain=True, rate_per_s=200.0, requests=3), out)
    assert json.loads(out.read_text())["figures"]["faults"] == {"garbage": 3}
    assert [row["error"] for row in rows(out)] == ['`choices` is not a list: "?"'] * 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_a_closed_terminal_leaves_the_result(tmp_path: Path, number: int) -> None:
    """The signal and the end of stderr at once, as when a window is closed."""
    out = tmp_path / "load.json"
    async with served(Mock(workers=9, service_s=0.02)) as url:
        options = ("--url", url, "--rate", "20", "--duration", "120", "--out", str(out))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "loadgen", "run", *options),
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # under nohup the tests ignore SIGHUP
        )
        try:
            assert process.stderr is not None
            await asyncio.wait_for(
                process.stderr.readline(), 60
            )  # a line of progress: requests have been sent
            process.stderr._transport.close()  # type: ignore[attr-defined]
            process.send_signal(number)
            await asyncio.wait_for(process.wait(), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    result = json.loads(out.read_text())
    assert result["partial"] is True
    assert result["figures"]["completed"] > 20
    assert len(rows(out)) >= result["figures"]["completed"]
