"""CPU times from the operating system: our waits for a core, and computing by this and other processes.

Linux only, from /proc. The waiting time of a thread is field 2 of its schedstat (nanoseconds on a run queue); the time
of all processes is in /proc/stat, in ticks of a hundredth of a second, niced processes in a column of their own.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TASKS: Final = Path("/proc/self/task")
STAT: Final = Path("/proc/stat")
USER, NICE, SYSTEM, IRQ, SOFTIRQ = 0, 1, 2, 5, 6  # columns of /proc/stat after the processor's name


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Times in seconds, each since a fixed moment; only differences are meaningful.

    wall: the clock. waited: all our threads' waits for a core. own: computed by this process. total: computed by
    every process of our priority or above, on the cores that we may use.
    """

    wall: float
    waited: float
    own: float
    total: float

    def since(self, begin: "CpuTimes") -> "CpuTimes":
        """The difference to the earlier times `begin`."""
        return CpuTimes(
            self.wall - begin.wall, self.waited - begin.waited, self.own - begin.own, self.total - begin.total
        )

    @property
    def others(self) -> float:
        """Core-seconds that other processes computed."""
        return max(self.total - self.own, 0.0)


def read_cpu_times() -> CpuTimes | None:
    """The current times; None where the system does not report them. Takes about 0.1 ms."""
    if sys.platform != "linux":
        return None
    try:
        return CpuTimes(time.perf_counter(), _waited_s(), time.process_time(), _computed_s())
    except (OSError, ValueError, IndexError):
        return None  # a kernel without scheduling statistics, or a sandbox without /proc


def _waited_s() -> float:
    """Time that our threads, alive now, have spent on run queues."""
    nanoseconds = 0
    for task in os.listdir(TASKS):
        try:
            nanoseconds += int((TASKS / task / "schedstat").read_bytes().split()[1])
        except FileNotFoundError:
            continue  # the thread has just ended
    return nanoseconds / 1e9


def _computed_s() -> float:
    """Time that processes of our priority or above have computed on the cores that we may use."""
    columns = [USER, SYSTEM, IRQ, SOFTIRQ]
    if os.getpriority(os.PRIO_PROCESS, 0) > 0:
        columns.append(NICE)
    cores = os.sched_getaffinity(0)
    ticks = 0
    for line in STAT.read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(" ")
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            values = rest.split()
            ticks += sum(int(values[column]) for column in columns)
    return ticks / os.sysconf("SC_CLK_TCK")
