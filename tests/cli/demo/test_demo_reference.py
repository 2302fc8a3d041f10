"""The reference's process: progress, kept answers, and its end in every way."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from cli.command.errors import CommandError
from cli.demo import reference as module
from cli.demo.reference import Text, reference
from loadgen.request import ChatRequest

REQUESTS = [ChatRequest(f"user-{n}", "m", f"prompt {n}", 4, device="device-0") for n in (1, 2)]
ANSWERS = """
import json, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
answers = {}
for n, case in enumerate(json.load(open(arguments["--cases"]))):
    assert set(case) == {"id", "prompt", "max_tokens", "temperature", "top_p", "seed"}
    answers[case["id"]] = {"prompt_ids": [1, n], "tokens": [2, n, 3], "margin": 0.5}
    print("reference", n, flush=True)
json.dump(answers, open(arguments["--out"], "w"))
"""


class Counted:
    """A step that counts."""

    def __init__(self) -> None:
        self.done, self.completed = 0, False

    def advance(self, note: str = "") -> None:
        self.done += 1

    def complete(self) -> None:
        self.completed = True


async def run(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> tuple[dict[str, Text], int]:
    monkeypatch.setattr(module, "COMMAND", (sys.executable, "-c", code))  # what follows are its arguments
    step = Counted()
    texts = await reference(folder / "target", REQUESTS, folder, step)  # type: ignore[arg-type]
    assert step.completed
    return texts, step.done


async def test_texts_are_read_and_every_request_is_progress(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    texts, done = await run(monkeypatch, tmp_path, ANSWERS)
    assert texts == {"user-1": Text((1, 0), (2, 0, 3)), "user-2": Text((1, 1), (2, 1, 3))}
    assert done == 2


async def test_what_was_asked_before_is_resumed_in_the_same_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await run(monkeypatch, tmp_path, ANSWERS)
    (kept,) = (tmp_path / "reference").glob("*/answers.json")
    before = json.loads(kept.read_text())
    texts, done = await run(monkeypatch, tmp_path, "pass")  # says nothing, as it does when all is at hand
    assert done == 0
    assert {name: list(text.answer) for name, text in texts.items()} == {
        name: answer["tokens"] for name, answer in before.items()
    }


async def test_a_process_that_fails_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "import sys; sys.stderr.write('x' * 200_000 + ' no such target'); sys.exit(3)"  # more than a pipe holds
    with pytest.raises(CommandError, match=r"ended with code 3: .* no such target"):
        await asyncio.wait_for(run(monkeypatch, tmp_path, code), 20)


async def test_a_process_that_says_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.2)
    with pytest.raises(CommandError, match=r"made no progress for .* see .*log"):
        await asyncio.wait_for(run(monkeypatch, tmp_path, "import time; time.sleep(60)"), 20)


async def test_the_process_ends_with_the_one_who_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(60)"
    task = asyncio.create_task(run(monkeypatch, tmp_path, code))
    async with asyncio.timeout(20):
        while not (pid_file.is_file() and pid_file.read_text().endswith("\n")):
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
