"""Random ids from one source per process, seeded in tests and simulation."""

import random
import string

ALPHABET = string.ascii_letters + string.digits


class Ids:
    """seed 0 draws the seed from the system; any other seed makes every id a function of it."""

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
        """Uniform between low and high: so that retries of many processes do not fall together."""
        return self._random.uniform(low, high)

    def exponential(self, mean: float) -> float:
        """Exponentially distributed."""
        return self._random.expovariate(1 / mean)
