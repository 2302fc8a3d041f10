"""Ranks of a pipeline as processes, on a tiny model with random weights."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from shared.broker.embedded import HOST, free_port
from tests.services.verifier.tiny import VOCAB, build, configs

LIMIT_S = 240.0  # importing torch takes its time beside other work
STEP_S = 0.1


def model(folder: Path, seed: int = 0, **changed: Any) -> Path:
    """A whole model folder: weights, configuration, tokenizer."""
    config = configs()["llama"]
    for name, value in changed.items():
        setattr(config, name, value)
    build(config, seed).save_pretrained(folder)
    vocab = {f"w{i}": i for i in range(VOCAB)}
    tokenizer: dict[str, object] = {
        "added_tokens": [],
        "pre_tokenizer": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": vocab},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


@dataclass
class Rank:
    """A running process; its output goes to a file."""

    rank: int
    process: asyncio.subprocess.Process
    log: Path
    health: int

    def output(self) -> str:
        return self.log.read_text()

    async def ended(self) -> tuple[int, str]:
        """Exit code and last line, once it has ended by itself."""
        async with asyncio.timeout(LIMIT_S):
            code = await self.process.wait()
        return code, self.output().strip().splitlines()[-1]

    async def reason(self) -> str:
        """What its health page says; "" when there is none yet."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                session.get(f"http://{HOST}:{self.health}/readyz") as response,
            ):
                return (await response.text()).strip()
        except (aiohttp.ClientError, TimeoutError):
            return ""

    async def says(self, part: str) -> None:
        """Wait until its health page says this."""
        async with asyncio.timeout(LIMIT_S):
            while part not in await self.reason():
                assert self.process.returncode is None, self.output()
                await asyncio.sleep(STEP_S)

    async def wrote(self, part: str, times: int = 1) -> None:
        """Wait until its log has this so often."""
        async with asyncio.timeout(LIMIT_S):
            while self.output().count(part) < times:
                assert self.process.returncode is None, self.output()
                await asyncio.sleep(STEP_S)

    async def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        await self.process.wait()


@dataclass
class Ranks:
    """Starts ranks of one group, and ends those that are left."""

    folder: Path
    broker_url: str
    stages: int
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    running: list[Rank] = field(default_factory=list)

    def environ(self, **own: str) -> dict[str, str]:
        """Of a rank; the settings of this test's own shell are left out."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
        return {
            **kept,
            "OUTRIDER_BROKER_URL": self.broker_url,
            "OUTRIDER_MODEL_DIR": str(self.folder / "model"),
            "OUTRIDER_STAGES": str(self.stages),
            "OUTRIDER_NAME": "verifier",
            "OUTRIDER_DTYPE": "float32",
            "OUTRIDER_KV_TOKENS": "1024",
            "OUTRIDER_VERIFIER_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            **self.settings,
            **own,
        }

    async def start(self, rank: int, **own: str) -> Rank:
        """One rank, as whatever supervises it would start it. own: settings of this one alone."""
        environ = {
            "RANK": str(rank),
            "WORLD_SIZE": str(self.stages + 1),
            "MASTER_ADDR": HOST,
            "MASTER_PORT": str(self.port),
        }
        return await self.run(rank, ("-m", "services.verifier"), **{**environ, **own})

    async def run(self, rank: int, arguments: Sequence[str], **own: str) -> Rank:
        """A process with these arguments of Python."""
        log = self.folder / f"{len(self.running)}.log"
        health = free_port()
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdout=file,
                stderr=file,
                env=self.environ(OUTRIDER_HEALTH_PORT=str(health), **own),
                start_new_session=True,
            )
        started = Rank(rank, process, log, health)
        self.running.append(started)
        return started


@asynccontextmanager
async def ranks(folder: Path, broker_url: str, stages: int, **settings: str) -> AsyncIterator[Ranks]:
    """Ranks of one group; what still runs at the end is killed, with what it has started."""
    group = Ranks(folder, broker_url, stages, settings)
    try:
        yield group
    finally:
        for one in group.running:
            if one.process.returncode is None:
                os.killpg(one.process.pid, signal.SIGKILL)
                await one.process.wait()
