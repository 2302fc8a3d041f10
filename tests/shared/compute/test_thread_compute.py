"""ThreadCompute: work runs on its own thread, and only that thread is niced."""

import os
import sys
import threading

import pytest

from shared.compute.compute import ThreadCompute


async def test_runs_on_its_own_thread_and_passes_errors_on() -> None:
    """The result, or the error, of what ran elsewhere than the loop."""
    compute = ThreadCompute("work")
    assert await compute.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await compute.run(lambda: 1 // 0)
    compute.close()


@pytest.mark.skipif(sys.platform != "linux", reason="nice is the whole process's elsewhere")
async def test_only_the_thread_stands_back() -> None:
    """Threads that the work starts inherit its niceness; the loop keeps its own."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    behind = min(before + 3, 19)  # as nice as there is
    compute = ThreadCompute("work", nice=3)

    def levels() -> tuple[int, int]:
        started: list[int] = []
        thread = threading.Thread(target=lambda: started.append(os.getpriority(os.PRIO_PROCESS, 0)))
        thread.start()
        thread.join()
        return os.getpriority(os.PRIO_PROCESS, 0), started[0]

    assert await compute.run(levels) == (behind, behind)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    compute.close()
