"""transformers' `generate` in a child process, which runs cli/bench/verifier/generate.py."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cli.command.errors import CommandError

LINE_BYTES = 1 << 24  # maximum length of an answer


@dataclass(frozen=True, slots=True)
class BaselineAnswer:
    """Generated token ids, one list per prompt, and the duration in seconds."""

    texts: list[list[int]]
    seconds: float


class Baseline:
    """The child process. Use as `async with Baseline(target) as baseline`.

    target, assistant: model folders. threads: compute threads; 0 = torch's default.
    """

    def __init__(
        self, target: Path, *, assistant: Path | None = None, dtype: str = "auto", threads: int = 0
    ) -> None:
        self._command = [sys.executable, "-m", "cli.bench.verifier.generate", "--target", str(target)]
        self._command += ["--dtype", dtype, "--threads", str(threads)]
        if assistant is not None:
            self._command += ["--assistant", str(assistant)]

    async def __aenter__(self) -> "Baseline":
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, limit=LINE_BYTES
        )
        await self._answer()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def ask(self, job: Mapping[str, Any]) -> BaselineAnswer:
        """Run one job, a JSON object of the form that cli/bench/verifier/generate.py reads.

        Raises CommandError when the process has ended.
        """
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        done = await self._answer()
        return BaselineAnswer(done["texts"], done["seconds"])

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        line = await self._process.stdout.readline()
        if not line:
            raise CommandError("the process of transformers ended: is there enough memory for the models?")
        answer: dict[str, Any] = json.loads(line)
        return answer
