"""A remote device for tests: a folder in which a shell runs the printed `outrider join` command."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from cli.admin import Admin
from cli.command.errors import CommandError
from cli.devices.devices import Place
from cli.stack.stack import LocalStack, access_of
from loadgen.client.streaming import Client
from loadgen.request import ChatRequest

WAIT_S = 15.0


class Machine:
    """A machine with a device. within: command that runs the shell, such as `ip netns exec NAME`."""

    started: ClassVar[list["Machine"]] = []  # those whose process the test may leave behind

    def __init__(self, folder: Path, within: Sequence[str] = ()) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        self.process: asyncio.subprocess.Process
        self._within = within

    async def run(self, line: str, env: Mapping[str, str] | None = None) -> None:
        """Run a command line. env: further variables; OUTRIDER_ variables of this process are not passed on."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
        if "OUTRIDER_CACHE" in os.environ:
            kept["OUTRIDER_CACHE"] = os.environ["OUTRIDER_CACHE"]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._within,
                "bash",
                "-c",
                line.replace("outrider join", "exec outrider join"),
                cwd=self.folder,
                env={**kept, "PATH": path, **(env or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(self)

    async def ended(self) -> tuple[int, str]:
        """Exit code and last line."""
        code = await asyncio.wait_for(self.process.wait(), WAIT_S)
        return code, self.log.read_text().strip().splitlines()[-1]

    async def stop(self) -> None:
        """Send SIGTERM, as Ctrl-C would end it; the exit code must be 0."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        assert await asyncio.wait_for(self.process.wait(), WAIT_S) == 0, self.log.read_text()

    def kill(self) -> None:
        """Kill what still runs. Needs no loop."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def place_of(stack: LocalStack) -> Place:
    """Files and URLs of this stack's broker, for `outrider devices`."""
    return Place(access_of(stack.options.state_dir), stack.broker_url, stack.join_url)


async def present(stack: LocalStack, name: str, there: bool = True, wait_s: float = WAIT_S) -> int:
    """Wait until the device is present, or absent. Returns its generation; 0 = absent."""
    async with Admin(stack.url) as admin:
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            try:
                found = [beat for beat in (await admin.status())["devices"] if beat["name"] == name]
            except CommandError:  # the broker is away
                found = []
            if bool(found) == there:
                return int(found[0]["generation"]) if found else 0
            await asyncio.sleep(0.1)
    raise AssertionError(f"{name} {'is not' if there else 'is still'} there after {wait_s} s")


async def text_of(stack: LocalStack, seed: int = 1, tokens: int = 60) -> tuple[list[int], int]:
    """Tokens of an answer, and the number of accepted drafted tokens."""
    async with Client(stack.url) as client:
        request = ChatRequest("s", await client.model(), "tell me", tokens, seed=seed, ignore_eos=True)
        record = await client.chat(request)
    assert not record.error, record.error
    return record.tokens, record.accepted_tokens
