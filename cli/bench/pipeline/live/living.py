"""Which rows a stage knows to be dead: it sees the rows that pass, and hears of each user's root. Pure."""

from collections.abc import Iterable

from simulator.pipeline.ring import Row


class LivingRows:
    """Rows that were seen and may be on the target's path. Rows of users without a decision are all alive."""

    def __init__(self) -> None:
        self._parents: dict[int, dict[int, int]] = {}  # of the living nodes, by user
        self._roots: dict[int, int] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Note rows that arrive. A row's parent is alive if it was noted before, and not found dead."""
        for row in rows:
            living = self._parents.setdefault(row.user, {})
            root = self._roots.get(row.user)
            if root is None or root in (row.node, row.parent) or row.parent in living:
                living[row.node] = row.parent

    def decide(self, user: int, root: int) -> None:
        """A user's root moved to this node. Rows that are not below it are forgotten."""
        self._roots[user] = root
        kept: dict[int, int] = {}
        for node, parent in sorted(
            self._parents.get(user, {}).items()
        ):  # a child's number is above its parent's
            if node == root or parent in kept:
                kept[node] = parent
        self._parents[user] = kept

    def __contains__(self, row: Row) -> bool:
        """May the row be on the target's path?"""
        return row.node in self._parents.get(row.user, ())

    def clear(self) -> None:
        """Forget all rows and roots."""
        self._parents.clear()
        self._roots.clear()
