"""A token bucket that sends a message at once where nothing is owed, and then waits until it is paid for. Pure."""

from dataclasses import dataclass
from math import inf


@dataclass(slots=True)
class TokenBucket:
    """Keeps a sender to a rate. Every call is given the time in seconds, which never goes back.

    A message may leave as soon as those before it are paid for at `bits_s`, so that what has left by a time is at most
    the rate times the time and one message more. Nothing is saved up while nothing is sent. Those that wait are owed
    for as well, in their order: take `free_at` first, and the message leaves then.
    """

    bits_s: float = inf
    _owed: float = 0.0  # bits that have left, or wait, and are not paid for
    _at: float = 0.0

    def set_rate(self, bits_s: float, now: float) -> None:
        """Pay at this rate from now on. Raises ValueError unless it is above 0."""
        if not bits_s > 0:
            raise ValueError(f"a rate of {bits_s} bit/s; give more than 0")
        self._pay(now)
        self.bits_s = bits_s

    def take(self, bits: float, now: float) -> None:
        """Owe for a message."""
        self._pay(now)
        if self.bits_s < inf:
            self._owed += bits

    def owed_bits(self, now: float) -> float:
        """What is not paid for."""
        self._pay(now)
        return self._owed

    @property
    def paid_at(self) -> float:
        """When everything will be paid for, as of the last call."""
        return self._at + self._owed / self.bits_s

    def free_at(self, now: float) -> float:
        """When the next message may leave; `now` where nothing is owed."""
        self._pay(now)
        return now + self._owed / self.bits_s

    def _pay(self, now: float) -> None:
        if self.bits_s < inf:
            self._owed = max(0.0, self._owed - self.bits_s * (now - self._at))
        else:
            self._owed = 0.0
        self._at = now
