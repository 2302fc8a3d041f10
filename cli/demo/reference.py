"""The target's own text for every request: a plain transformers loop in a child process. Results are cached."""

import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.command.errors import CommandError
from loadgen.measuring.progress import ProgressStep
from loadgen.request import ChatRequest

FIELDS: Final = ("id", "prompt", "max_tokens", "temperature", "top_p", "seed")
COMMAND: Final = (sys.executable, "-m", "cli.reference")
THREADS: Final = "1"  # one token a pass gains little from more, and loses much where cores are shared
SILENCE_S: Final = 900.0  # for one request; some machines take half a minute


@dataclass(frozen=True, slots=True)
class Text:
    """Token ids of a prompt and of the target's answer, including the stop token if there was one."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


async def reference(
    target: Path, requests: Sequence[ChatRequest], state_dir: Path, step: ProgressStep
) -> dict[str, Text]:
    """Texts by the requests' ids. Raises CommandError with the end of the process's log."""
    cases = [{name: getattr(request, name) for name in FIELDS} for request in requests]
    key = json.dumps([str(target.resolve()), cases], sort_keys=True)
    folder = state_dir / "reference" / hashlib.sha256(key.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    answers = folder / "answers.json"
    await _run(target, folder / "cases.json", answers, folder / "log", step)
    step.complete()
    texts = json.loads(answers.read_text())
    return {case: Text(tuple(a["prompt_ids"]), tuple(a["tokens"])) for case, a in texts.items()}


async def _run(target: Path, cases: Path, answers: Path, log_file: Path, step: ProgressStep) -> None:
    """Run the process to its end. It is killed if the caller is cancelled."""
    files = ("--model", str(target), "--cases", str(cases), "--out", str(answers))
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *files, "--threads", THREADS, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    try:
        while await asyncio.wait_for(process.stdout.readline(), SILENCE_S):
            step.advance()
        code = await process.wait()
    except TimeoutError:
        raise CommandError(f"the reference made no progress for {SILENCE_S:.0f} s, see {log_file}") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        words = log_file.read_text(errors="replace").strip()[-500:]
        raise CommandError(f"the reference ended with code {code}: {words}")
