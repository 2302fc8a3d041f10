"""`outrider up` and `outrider down`: run a local stack, and stop one."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from cli.command.errors import CommandError
from cli.stack.stack import LocalStack, StackOptions
from shared.runtime.stack_state import read_state

DOWN_TIMEOUT_S: Final = 45.0  # LocalStack.stop has four stages of at most ten seconds
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_up(options: StackOptions) -> None:
    """Run the stack until a stop signal. Raises ProcessFailed when a process that it needs ends permanently."""
    console = Console(stderr=True)
    stop = asyncio.Event()
    for signum in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    stack = LocalStack(options)
    stack.claim()
    started = time.monotonic()
    try:
        with console.status("starting: broker, verifier, scheduler, draft workers, gateway"):
            await _first(asyncio.create_task(_ready(stack)), stop)
        if not stop.is_set():
            console.print(f"[green]ready[/] after {time.monotonic() - started:.1f} s at {stack.url}/v1")
            if stack.join_url:
                console.print(
                    f"devices reach it at {stack.join_url}; `outrider devices add NAME` prints the line for one"
                )
            console.print(
                f"broker at {stack.broker_url}, health pages and metrics on ports from {options.ports.health}"
            )
            console.print(f"logs in {options.state_dir}/logs; try `outrider chat`; Ctrl-C stops the stack")
            await _first(asyncio.create_task(stack.watch()), stop)
    finally:
        try:
            console.print("stopping")
        finally:  # also when the line cannot be written
            await stack.stop()


def run_down(state_dir: Path) -> str:
    """Stop the running stack and wait for it. Returns a line that says what happened. Raises CommandError."""
    running = read_state(state_dir)
    if running is None:
        return "no stack is running"
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while time.monotonic() < deadline:
        now = read_state(state_dir)
        if now is None or now.stack != running.stack:
            return f"stopped (process {running.pid})"
        time.sleep(0.1)
    raise CommandError(f"process {running.pid} has not stopped after {DOWN_TIMEOUT_S:.0f} s")


async def _ready(stack: LocalStack) -> None:
    await stack.start()
    await stack.wait_ready()


async def _first(task: "asyncio.Task[None]", stop: asyncio.Event) -> None:
    """Wait until the task ends (its error is raised) or `stop` is set (the task is cancelled)."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if task.done():
        task.result()
    else:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
