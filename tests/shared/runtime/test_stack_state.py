"""The state folder: one lock holder, and a state file that counts only while the holder runs."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.runtime.stack_state import (
    FileLock,
    State,
    StateError,
    claim,
    locked,
    read_state,
    start_of,
    state_file,
    write_state,
)


def state(**changes: Any) -> State:
    own = {
        "pid": os.getpid(),
        "started": start_of(os.getpid()),
        "stack": "s",
        "url": "http://127.0.0.1:1",
        "broker_url": "redis://127.0.0.1:2/0",
        "join_url": "",
        "metrics": ("http://127.0.0.1:3/metrics",),
        "given_up": {"draft-worker-0": "ended"},
    }
    return State(**{**own, **changes})


@pytest.fixture(autouse=True)
def _look_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is held in these tests stays held, so a claim need not retry for long."""
    monkeypatch.setattr("shared.runtime.stack_state.CLAIM_TIMEOUT_S", 0.05)


def test_what_the_holder_writes_is_read_while_it_holds(tmp_path: Path) -> None:
    lock = claim(tmp_path)
    assert read_state(tmp_path) is None
    write_state(tmp_path, state())
    assert read_state(tmp_path) == state()
    lock.release()
    assert read_state(tmp_path) is None


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from shared.runtime.stack_state import *\n"
    code += "lock = claim(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StateError, match=rf"process {holder.pid}, state in {tmp_path}"):
            claim(tmp_path)
        holder.kill()
    claim(tmp_path).release()


def test_a_claim_forgets_what_an_earlier_stack_left(tmp_path: Path) -> None:
    write_state(tmp_path, state())
    lock = claim(tmp_path)
    assert not state_file(tmp_path).exists()
    lock.release()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "",
        "{",
        "\x00\xff",
        '{"pid": 1}',
        *(json.dumps({"pid": pid}) for pid in (-1, 0, 1, "x")),
    ],
)
def test_a_malformed_file_is_no_stack(tmp_path: Path, text: str) -> None:
    lock = claim(tmp_path)
    state_file(tmp_path).write_text(text, encoding="latin-1")
    assert read_state(tmp_path) is None
    lock.release()


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_no_stack_has_an_id_that_is_a_group_or_init(tmp_path: Path, pid: int) -> None:
    lock = claim(tmp_path)
    write_state(tmp_path, state())
    whole = json.loads(state_file(tmp_path).read_text())
    state_file(tmp_path).write_text(json.dumps({**whole, "pid": pid, "started": start_of(pid)}))
    assert read_state(tmp_path) is None
    lock.release()


def test_another_process_that_got_the_id_is_no_stack(tmp_path: Path) -> None:
    lock = claim(tmp_path)
    write_state(tmp_path, state(started="0"))
    assert read_state(tmp_path) is None
    lock.release()


def test_a_file_is_no_state_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StateError, match=rf"--state {file}: "):
        claim(file)
    assert read_state(file) is None


def test_a_process_has_one_start_and_none_when_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = start_of(process.pid)
        assert began == start_of(process.pid) != ""
        process.kill()
    assert start_of(process.pid) == ""


async def test_a_lock_that_is_held_for_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = FileLock(path)
    assert holder.take("17")
    with pytest.raises(StateError, match="process 17 has held this lock"):
        async with locked(path, wait_s=0.05):
            pass
    waiting = asyncio.create_task(_enter(path))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    holder.release()
    await asyncio.wait_for(waiting, 10)


async def _enter(path: Path) -> None:
    async with locked(path):
        pass
