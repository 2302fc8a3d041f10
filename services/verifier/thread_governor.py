"""Chooses the number of threads of a pass while other processes compete for the cores.

Threads of one product wait for each other: when one of them is preempted, all wait a whole time slice. On two cores
with one busy neighbour a pass then takes several times as long on two threads, and less than twice as long on one
(docs/benchmarks.md, "Beside busy processes"). So threads are given up while passes wait for cores, and taken back when
the cores are free.
"""

from typing import Final

from services.verifier.cpu_times import CpuTimes

FADING: Final = 0.8  # fading factor per pass: about five passes count
MAX_WAITED_SHARE: Final = (
    0.35  # share of a pass spent waiting for a core from which two threads are slower than one
)
SPARE_CORES: Final = 0.3  # cores that others, such as our own services, may use without costing us a thread
MIN_PASSES: Final = 3  # passes between changes, so that each number of threads is measured on its own passes


class ThreadGovernor:
    """Chooses the number of threads after every pass, from what the passes waited and what others computed."""

    def __init__(self, limit: int, cores: int) -> None:
        """limit: threads when no other process computes. cores: that this process may use."""
        self._cores = cores
        self.limit = limit
        self.threads = limit
        self._passes = 0
        self._wall = self._waited = self._others = 0.0

    def limit_to(self, limit: int) -> None:
        """Set another limit from the next pass on."""
        self.limit = self.threads = limit
        self._forget_all()

    def after_pass(self, spent: CpuTimes) -> int:
        """Number of threads for the next pass. spent: CPU times of this pass."""
        self._passes += 1
        self._wall = FADING * self._wall + spent.wall
        self._waited = FADING * self._waited + spent.waited
        self._others = FADING * self._others + spent.others
        if self._passes >= MIN_PASSES and self._wall > 0:
            fitting = self._fitting()
            slowed = self._waited / self._wall > MAX_WAITED_SHARE
            if fitting > self.threads or (fitting < self.threads and slowed):
                self.threads = fitting
                self._forget_all()
        return self.threads

    def _fitting(self) -> int:
        """Number of threads that can have a free core each."""
        free = self._cores - self._others / self._wall + SPARE_CORES
        return max(1, min(self.limit, int(free)))

    def _forget_all(self) -> None:
        self._passes = 0
        self._wall = self._waited = self._others = 0.0
