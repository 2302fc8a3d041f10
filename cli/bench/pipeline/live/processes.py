"""Starts the stage processes of a live pipeline, watches them, and ends them."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from torch._C._distributed_c10d import TCPStore

from cli.bench.pipeline.live.group import (
    ADDRESS,
    LINKS_S,
    START_S,
    RingLinks,
    connect,
    listening_store,
    present,
)
from cli.bench.pipeline.live.live_ring import LiveRing
from cli.bench.pipeline.live.ports import alongside
from cli.bench.pipeline.live.stage_process import EXIT_NEIGHBOUR, law_text
from cli.command.errors import ProcessFailed
from cli.stack.processes import exit_reason
from services.verifier.stages.link import LinkBroken
from shared.compute.compute import ThreadCompute
from shared.planning.pieces import PipelineLaw

T = TypeVar("T")
POLL_S: Final = 0.05
STOP_S: Final = 5.0  # for a process to end by itself, before it is killed
BLAME_S: Final = 2.0  # for the processes to end after a link broke


class StageProcesses:
    """The processes of stages 1 … N. pids: their ids, in this order, once they were started."""

    def __init__(self, law: PipelineLaw) -> None:
        self._law = law
        self.world = len(law.stages) + 1
        self.pids: list[int] = []
        self._processes: list[asyncio.subprocess.Process] = []
        self._ends: list[asyncio.Task[bytes]] = []  # what each has written to stderr, when it is over

    async def start(self, port: int) -> None:
        """Start all; port: of rank 0's store. Raises ProcessFailed."""
        for rank in range(1, self.world):
            given = {"RANK": rank, "WORLD_SIZE": self.world, "MASTER_ADDR": ADDRESS, "MASTER_PORT": port}
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "cli.bench.pipeline.live.stage_process", law_text(self._law)),
                    env={**os.environ, **{name: str(value) for name, value in given.items()}},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    process_group=0,  # Ctrl-C reaches the command alone, which ends them
                )
            except OSError as error:
                raise ProcessFailed(f"stage {rank} cannot be started: {error}") from None
            self._processes.append(process)
            self.pids.append(process.pid)
            self._ends.append(asyncio.create_task(_last_words(process)))

    async def watch(self) -> None:
        """Wait until a process fails. Raises ProcessFailed then."""
        waiting = set(self._ends)
        while waiting:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if await self._failures():
                raise ProcessFailed(await self.blame("the pipeline broke"))
        await asyncio.Event().wait()  # all have ended as they should

    async def blame(self, otherwise: str) -> str:
        """Which process failed, and why, in one line: the one whose failure is not another's. Waits for it briefly."""
        if self._ends:
            await asyncio.wait(self._ends, timeout=BLAME_S)
        return min(await self._failures(), default=(False, otherwise))[1]

    async def _failures(self) -> list[tuple[bool, str]]:
        """Of the processes that failed: is another one the cause, and a line."""
        found = []
        for rank, (process, end) in enumerate(zip(self._processes, self._ends, strict=True), start=1):
            if end.done() and (code := await process.wait()):
                said = end.result().decode(errors="replace").strip().splitlines()
                line = f"stage {rank} has ended with {exit_reason(code)}" + (f": {said[-1]}" if said else "")
                found.append((code == EXIT_NEIGHBOUR, line))
        return found

    async def stop(self) -> None:
        """End those that are still there."""
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
        for process in self._processes:
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.gather(*self._ends, return_exceptions=True)


async def run_live(law: PipelineLaw, work: Callable[[LiveRing], Coroutine[Any, Any, T]]) -> T:
    """The result of `work` over a pipeline of N new processes, which have ended then. Raises ProcessFailed."""
    processes, thread = StageProcesses(law), ThreadCompute("pipeline")
    links: RingLinks | None = None
    try:
        links = await _join(processes, thread)
        ring = LiveRing(law, links.inbound, links.outbound, links.turns)

        async def whole() -> T:
            result = await work(ring)
            await ring.close()
            return result

        return await alongside(ring.serving(whole()), processes.watch())
    except LinkBroken as error:
        raise ProcessFailed(await processes.blame(str(error))) from None
    finally:
        await processes.stop()  # first, since a thread may be reading from one
        thread.close()
        if links is not None:
            links.close()


async def _last_words(process: asyncio.subprocess.Process) -> bytes:
    """What a process writes to stderr until it ends."""
    return b"" if process.stderr is None else await process.stderr.read()


async def _join(processes: StageProcesses, thread: ThreadCompute) -> RingLinks:
    """Start the processes and connect to them. Raises ProcessFailed."""

    async def all_present(store: TCPStore) -> None:
        while not present(store, processes.world):
            await asyncio.sleep(POLL_S)

    try:
        store = listening_store(processes.world)
        await processes.start(store.port)
        async with asyncio.timeout(START_S):
            await alongside(all_present(store), processes.watch())
        return await thread.run(lambda: connect(store, 0, processes.world, LINKS_S))
    except TimeoutError:
        raise ProcessFailed(f"the stages are not there after {START_S:.0f} s") from None
    except ProcessFailed:
        raise
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ProcessFailed(await processes.blame(f"no pipeline: {reason}")) from None
