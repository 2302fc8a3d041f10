"""A sleep that an event ends early."""

import asyncio


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, for `seconds` at most.

    A fleet pauses several times a second and device. So there is no task, as wait_for makes, and no cancellation, as
    asyncio.timeout makes of each end: the future is one of those that `Event.wait` leaves with the event.
    """
    if event.is_set():
        return
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    timer = loop.call_later(seconds, _wake, woken)
    waiters = event._waiters  # the same from Python 3.11 to 3.14
    waiters.append(woken)
    try:
        await woken
    finally:
        timer.cancel()
        waiters.remove(woken)


def _wake(woken: asyncio.Future[bool]) -> None:
    if not woken.done():
        woken.set_result(True)
