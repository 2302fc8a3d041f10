"""Supervised processes: restarts, permanent failures, and stopping within a limit."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from cli.command.errors import ProcessFailed
from cli.stack.processes import LAST_BYTES, Spec, Supervised, exit_reason


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
    assert process.deaths[0] == "drafter ended unexpectedly with code 1: out of luck"
    assert process.deaths[0] in capsys.readouterr().err


async def test_does_not_restart_what_a_setting_stopped(tmp_path: Path) -> None:
    words = "import sys; print('verifier: OUTRIDER_DTYPE is wrong', file=sys.stderr); sys.exit(2)"
    process = Supervised(Spec("verifier", python(words)), tmp_path)
    await process.start()
    with pytest.raises(ProcessFailed, match="ended with code 2: verifier: OUTRIDER_DTYPE is wrong"):
        await process.watch()


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = Supervised(Spec("stubborn", python(code)), tmp_path)
    await process.start()
    async with asyncio.timeout(10):
        while "up" not in process.last_words():
            await asyncio.sleep(0.02)
    await process.stop(0.2)
    assert process.pid == 0


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.stack.processes.BACKOFF_S", (0.0,))


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(
    ("ends", "how"),
    [
        ("import os; os.kill(os.getpid(), 4)", r"SIGILL \(illegal instruction\)"),
        ("raise SystemExit(7)", "code 7"),
    ],
)
async def test_three_deaths_of_one_kind_before_it_is_ready_are_enough(
    tmp_path: Path, ends: str, how: str
) -> None:
    process = Supervised(Spec("drafter", python(f"print('words', flush=True); {ends}")), tmp_path)
    await process.start()
    async with asyncio.timeout(30):
        with pytest.raises(
            ProcessFailed, match=rf"drafter ended 3 times with {how} before it was ready: words"
        ):
            await process.watch()
    assert process.restarts == 2


@pytest.mark.usefixtures("_at_once")
async def test_what_was_ready_once_is_started_again_and_again(tmp_path: Path) -> None:
    process = Supervised(Spec("drafter", python("raise SystemExit(7)")), tmp_path)
    process.was_ready = True
    await process.start()
    watcher = asyncio.create_task(process.watch())
    async with asyncio.timeout(30):
        while process.restarts < 4:
            await asyncio.sleep(0.02)
    await process.stop()
    await watcher


@pytest.mark.usefixtures("_at_once")
async def test_deaths_of_different_kinds_count_apart(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    code = f"from pathlib import Path; count = Path({str(count)!r}); number = int(count.read_text())\n"
    code += "count.write_text(str(number + 1)); raise SystemExit(7 + number % 2)"
    process = Supervised(Spec("drafter", python(code)), tmp_path)
    await process.start()
    async with asyncio.timeout(30):
        with pytest.raises(ProcessFailed, match="ended 3 times with code 7"):
            await process.watch()
    assert process.restarts == 4


@pytest.mark.usefixtures("_at_once")
async def test_what_is_asked_after_a_restart_may_end_it(tmp_path: Path) -> None:
    async def refuse(process: Supervised) -> None:
        raise ProcessFailed(f"{process.spec.name}: not ours")

    process = Supervised(Spec("broker", python("import time; time.sleep(60)")), tmp_path, refuse)
    await process.start()
    process.kill()
    async with asyncio.timeout(30):
        with pytest.raises(ProcessFailed, match="broker: not ours"):
            await process.watch()
    assert len(process.pids) == 2
    await process.stop()


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = Supervised(Spec("drafter", (str(tmp_path / "nothing"),)), tmp_path)
    with pytest.raises(ProcessFailed, match=r"drafter cannot be started: .*nothing"):
        await process.start()


async def test_last_words_are_the_end_of_what_this_incarnation_wrote(tmp_path: Path) -> None:
    (tmp_path / "drafter.log").write_text("words of an earlier stack\n")
    process = Supervised(Spec("drafter", python("print('started', flush=True); input()")), tmp_path)
    assert process.last_words() == "words of an earlier stack"
    quiet = Supervised(Spec("drafter", python("pass")), tmp_path)
    await quiet.start()
    watcher = asyncio.create_task(quiet.watch())
    async with asyncio.timeout(30):
        while not quiet.deaths:
            await asyncio.sleep(0.02)
    await quiet.stop()
    await watcher
    assert quiet.deaths[0] == "drafter ended unexpectedly with code 0: (empty log)"


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path) -> None:
    with (tmp_path / "drafter.log").open("wb") as log:
        log.truncate(1 << 40)  # takes no room on the disk, and no memory holds it
        log.seek(0, 2)
        log.write(b"\nthe end\n")
    process = Supervised(Spec("drafter", ()), tmp_path)
    assert process.last_words(1) == "the end"
    (tmp_path / "drafter.log").write_text("x" * (3 * LAST_BYTES))
    assert process.last_words() == "x" * LAST_BYTES


def test_ends_have_names() -> None:
    assert exit_reason(3) == "code 3"
    assert exit_reason(-signal.SIGSEGV) == "SIGSEGV (segmentation fault)"
    assert exit_reason(-63) == "signal 63"
