"""A process's own clock: it starts elsewhere than the others and runs a little faster or slower."""

from dataclasses import dataclass
from math import inf, nextafter


@dataclass(frozen=True, slots=True)
class ProcessClock:
    """local = offset_s + rate · true, in seconds. Processes of the protocol only compare stamps of one sender."""

    offset_s: float = 0.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate {self.rate}: a clock has to run forwards; give a rate above 0")

    def local(self, true_s: float) -> float:
        """The time that this clock shows at a true time."""
        return self.offset_s + self.rate * true_s

    def true(self, local_s: float) -> float:
        """The true time from which on this clock shows `local_s`. Never early: a timer that fires by a rounding
        error too soon would be set again for no time at all, for ever."""
        true_s = (local_s - self.offset_s) / self.rate
        while self.local(true_s) < local_s:
            true_s = nextafter(true_s, inf)
        return true_s


TRUE: ProcessClock = ProcessClock()
