"""A sleep that an event ends early."""

import asyncio


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, for `seconds` at most. Unlike wait_for it creates no task, since a fleet has many pauses."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
