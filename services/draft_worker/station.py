"""A device's place in a radio cell, as its link sees it."""

from collections.abc import Callable
from typing import Protocol

from shared.cells.cell import Direction


class Station(Protocol):
    """What carries a device's messages before their delay. See services/draft_worker/radio.py."""

    def join(self) -> None:
        """Enter the cell, without anything to transfer."""
        ...

    def leave(self) -> None:
        """Leave the cell; what is under way is lost."""
        ...

    def keep(self, bits_s: float) -> None:
        """Transfer at most at this rate from now on, both directions together, where the cell enforces shares."""
        ...

    def send(self, direction: Direction, size: int, carried: Callable[[], None]) -> None:
        """Transfer `size` bytes behind the earlier ones of this direction, and then call `carried`."""
        ...

    def drop(self, direction: Direction) -> None:
        """Drop what is under way in a direction."""
        ...
