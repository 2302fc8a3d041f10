"""Random ids from one generator per process, seeded in tests and simulation."""

import random
import string

ALPHABET = string.ascii_letters + string.digits


class Ids:
    """Seed 0 uses the system's randomness; any other seed makes all ids reproducible."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed) if seed else random.SystemRandom()  # noqa: S311  # not secrets

    def session(self, shard: str) -> str:
        """A new session id; 22 characters hold 130 bits."""
        return f"{shard}-{self.token(22)}"

    def token(self, n: int) -> str:
        """n random letters and digits."""
        return "".join(self._random.choices(ALPHABET, k=n))

    def bits(self, n: int) -> int:
        """A random number of n bits."""
        return self._random.getrandbits(n)

    def jitter(self, low: float, high: float) -> float:
        """Uniform between low and high, so that retries of many processes do not coincide."""
        return self._random.uniform(low, high)

    def exponential(self, mean: float) -> float:
        """An exponentially distributed number with this mean."""
        return self._random.expovariate(1 / mean)
