"""Supervised processes: restarted when they die, not when that cannot help, stopped with a bound."""

import asyncio
import sys
from pathlib import Path

import pytest

from services.local.processes import ProcessFailed, Spec, Supervised


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_restarts_what_dies(tmp_path: Path) -> None:
    process = Supervised(Spec("sleeper", python("import time; time.sleep(60)")), tmp_path)
    await process.start()
    watcher = asyncio.create_task(process.watch())
    first = process.pid
    process.kill()
    async with asyncio.timeout(10):
        while process.pid in (0, first):
            await asyncio.sleep(0.02)
    assert process.restarts == 1
    assert process.deaths == []  # it was asked for
    await process.stop()
    await watcher
    assert process.pid == 0


async def test_a_death_nobody_asked_for_is_told_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = Supervised(Spec("drafter", python("print('out of luck'); raise SystemExit(1)")), tmp_path)
    await process.start()
    watcher = asyncio.create_task(process.watch())
    async with asyncio.timeout(10):
        while not process.deaths:
            await asyncio.sleep(0.02)
    await process.stop()
    await watcher
    assert process.deaths[0] == "drafter ended by itself with code 1: out of luck"
    assert process.deaths[0] in capsys.readouterr().err


async def test_does_not_restart_what_a_setting_stopped(tmp_path: Path) -> None:
    words = "import sys; print('verifier: OUTRIDER_DTYPE is wrong', file=sys.stderr); sys.exit(2)"
    process = Supervised(Spec("verifier", python(words)), tmp_path)
    await process.start()
    with pytest.raises(ProcessFailed, match="ended with code 2: verifier: OUTRIDER_DTYPE is wrong"):
        await process.watch()


async def test_a_process_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.local.processes.STOP_S", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = Supervised(Spec("stubborn", python(code)), tmp_path)
    await process.start()
    async with asyncio.timeout(10):
        while "up" not in process.last_words():
            await asyncio.sleep(0.02)
    await process.stop()
    assert process.pid == 0
