"""How many threads a pass gets, when other processes want the same cores.

Threads of one product wait for each other: when one of them is preempted, all wait a whole time slice. On two cores
with one busy neighbour a pass then takes several times as long on two threads, and less than twice as long on one
(docs/benchmarks.md, "Beside busy processes"). So threads are given up while passes wait for cores, and taken back when
the cores are free.
"""

from typing import Final

from services.verifier.cpu_times import CpuTimes

FORGET: Final = 0.8  # weight of earlier passes: five count
HARM: Final = 0.35  # share of a pass that its threads waited for a core; two threads are then slower than one
SLACK: Final = 0.3  # cores that others may use without costing us a thread: the services beside us do
SETTLE: Final = 3  # passes after a change before the next one, so that what is judged is the new number


class ThreadGovernor:
    """Chooses the number of threads after every pass, from what the passes waited and what others computed."""

    def __init__(self, limit: int, cores: int) -> None:
        """limit: threads when nobody else computes. cores: that this process may use."""
        self._cores = cores
        self.limit = limit
        self.threads = limit
        self._passes = 0
        self._wall = self._waited = self._others = 0.0

    def limit_to(self, limit: int) -> None:
        """Another limit, from the next pass on."""
        self.limit = self.threads = limit
        self._forget_all()

    def passed(self, spent: CpuTimes) -> int:
        """Threads for the next pass. spent: the differences over this one."""
        self._passes += 1
        self._wall = FORGET * self._wall + spent.wall
        self._waited = FORGET * self._waited + spent.waited
        self._others = FORGET * self._others + spent.others
        if self._passes >= SETTLE and self._wall > 0:
            fitting = self._fitting()
            harmed = self._waited / self._wall > HARM
            if fitting > self.threads or (fitting < self.threads and harmed):
                self.threads = fitting
                self._forget_all()
        return self.threads

    def _fitting(self) -> int:
        """Threads that have a core each, beside what others compute."""
        free = self._cores - self._others / self._wall + SLACK
        return max(1, min(self.limit, int(free)))

    def _forget_all(self) -> None:
        self._passes = 0
        self._wall = self._waited = self._others = 0.0
