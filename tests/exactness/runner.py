"""Runs one cell of the equality suite on a real stack, and compares every token with the reference."""

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from cli.admin import Admin
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.client.streaming import Client
from loadgen.request import ChatRequest, Record
from tests.exactness.cells import Cell

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())


@dataclass(slots=True)
class Outcome:
    """Result of a cell. different: cases whose tokens differ from the reference, with both texts."""

    cases: int
    tokens: int
    seconds: float
    kills: int
    different: list[dict[str, Any]] = field(default_factory=list)


def options(folder: Path, sharing: bool, state_dir: Path, **env: str) -> StackOptions:
    """Options of a cell's stack: SmolLM2 in float32, two draft workers, free ports. env: further settings."""
    settings = {"OUTRIDER_DTYPE": "float32", "OUTRIDER_PREFIX_SHARING": str(sharing).lower(), **env}
    return StackOptions(
        folder / "target",
        folder / "draft.gguf",
        "smollm2",
        ports=Ports.free(),
        state_dir=state_dir,
        env=settings,
    )


def options_of(cell: Cell, folder: Path, state_dir: Path) -> StackOptions:
    """Options of the stack that a cell needs."""
    core_draft = str(folder / "draft.gguf") if cell.core_draft else ""
    env = {
        "OUTRIDER_WINDOW": cell.window,
        "OUTRIDER_CORE_DRAFT": core_draft,
        "OUTRIDER_STAGE_LAYERS": cell.layers,
        "OUTRIDER_PAGE_TOKENS": str(cell.page_tokens),
    }
    plain = replace(options(folder, cell.sharing, state_dir, **env), stages=cell.stages)
    return replace(plain, ports=Ports.free(plain.health_ports))


async def run_cell(stack: LocalStack, cell: Cell, cases: Sequence[dict[str, Any]]) -> Outcome:
    """Run all cases, `cell.users` at a time, while the process that the cell names is killed twice."""
    killer = Killer(stack, cell, sum(len(case["tokens"]) for case in cases))
    async with Client(stack.url, on_event=killer.count) as client, Admin(stack.url) as admin:
        await admin.set_policy(cell.policy, cell.k)
        started = time.perf_counter()
        places = asyncio.Semaphore(cell.users)

        async def one(case: dict[str, Any]) -> Record:
            async with places:
                return await client.chat(request(case))

        records = await asyncio.gather(*(one(case) for case in cases))
    await killer.finish()
    outcome = Outcome(
        len(records), sum(len(r.tokens) for r in records), time.perf_counter() - started, killer.kills
    )
    for case, record in zip(cases, records, strict=True):
        if record.error or record.tokens != case["tokens"]:
            got = {"got": record.tokens, "error": record.error, "expected": case["tokens"]}
            outcome.different.append({"case": case["id"], **got})
    return outcome


def request(case: dict[str, Any]) -> ChatRequest:
    """A case as a request of the load generator."""
    names = ("id", "prompt", "max_tokens", "temperature", "top_p", "seed")
    return ChatRequest(model="smollm2", **{name: case[name] for name in names})


class Killer:
    """Kills a process twice: when the clients have a quarter and a half of the expected tokens.

    All ranks of a pipeline: each of them twice, spread over the tokens.
    """

    def __init__(self, stack: LocalStack, cell: Cell, expected_tokens: int) -> None:
        self.kills = 0
        self._stack, self._cell = stack, cell
        self._marks = [expected_tokens // 4, expected_tokens // 2] if cell.killed else []
        if cell.killed == "ranks":
            self._marks = [expected_tokens * (i + 1) // (cell.all_kills + 2) for i in range(cell.all_kills)]
        self._seen: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def count(self, record: Record) -> None:
        """Count the tokens of a request; the client calls this for each event."""
        self._seen[record.request.id] = len(record.tokens)
        if self._marks and sum(self._seen.values()) >= self._marks[0]:
            self._marks.pop(0)
            self.kills += 1
            self._tasks.append(asyncio.create_task(self._kill()))

    async def finish(self) -> None:
        """Wait for kills under way; their errors are raised."""
        await asyncio.gather(*self._tasks)

    async def _kill(self) -> None:
        if self._cell.killed == "connections":
            async with Redis.from_url(self._stack.broker_url) as redis:
                await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            return
        name = {
            "draft_worker": f"draft-worker-{self.kills % 2}",
            "ranks": ["verifier", *(f"stage-{rank}" for rank in range(1, self._cell.stages + 1))][
                self.kills % (self._cell.stages + 1)
            ],
        }.get(self._cell.killed, self._cell.killed)
        process = self._stack.processes[name]
        while not process.pid:  # it died with another rank and is about to start again
            await asyncio.sleep(0.05)
        process.kill(signal.SIGKILL)
