"""Ends a child process: asked first, killed when it does not listen."""

import asyncio
from contextlib import suppress
from typing import Final

STOP_S: Final = 5.0  # from SIGTERM to SIGKILL


async def stop_process(process: asyncio.subprocess.Process) -> None:
    """Terminate it, kill it after STOP_S seconds, and wait for its end."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
