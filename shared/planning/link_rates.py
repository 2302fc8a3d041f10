"""The rates of devices' links, as they are learnt or reported; what cannot be true counts as the slowest."""

from typing import Final

MIN_BITS_S: Final = 100.0  # what a link carries at least; a device that claims less cannot draft over it
MAX_BITS_S: Final = 1e11


class LinkRates:
    """The believed rate of each device's link, in bit/s."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}
        self._absurd: set[str] = set()

    def take(self, device: str, bits_s: float) -> None:
        """Take a rate; inf = so fast that sizes make no difference.

        Raises ValueError for one that is not a number, not positive, below MIN_BITS_S or finite above MAX_BITS_S. From
        then on, until it is plausible again, the device's link counts as the slowest seen.
        """
        plausible = MIN_BITS_S <= bits_s <= MAX_BITS_S or bits_s == float("inf")
        if plausible:
            self._rates[device] = bits_s
            self._absurd.discard(device)
            return
        self._rates.pop(device, None)
        self._absurd.add(device)
        raise ValueError(f"{bits_s} bit/s")

    def bits_s(self, device: str) -> float | None:
        """The rate to reckon with; None = nothing is known."""
        if device in self._absurd:
            return min(self._rates.values(), default=MIN_BITS_S)
        return self._rates.get(device)
