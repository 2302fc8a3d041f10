"""The nodes of one session's draft tree that are fed to a model, in the order of their KV slots. Pure.

The first is behind the session's committed tokens. A model's cache holds the nodes in this order, or will, once it has
read all that was sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.compute.draft_tree import DraftTree
from shared.compute.tree_drafter import ROOT


@dataclass(frozen=True, slots=True)
class Kept:
    """What a decision leaves in the cache, as places among the nodes before it: the path, then the open nodes."""

    path: tuple[int, ...]
    open: tuple[int, ...]


NOTHING: Final = Kept((), ())


@dataclass(slots=True)
class TreeSlots:
    """nodes: by their numbers in the tree."""

    nodes: list[int] = field(default_factory=list)

    def piece(self, tree: DraftTree, nodes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Append nodes, each after its parent. Returns the parents of the nodes before, and theirs, by place.

        See TargetRow. Raises KeyError when a parent was not fed.
        """
        before = len(self.nodes)
        self.nodes += nodes
        place = {node: index for index, node in enumerate(self.nodes)} | {ROOT: -1}
        parents = tuple(place[tree.parent(node)] for node in self.nodes)
        return parents[:before], parents[before:]

    def decide(self, path: Sequence[int], tree: DraftTree) -> Kept:
        """Forget the nodes that are not alive. path: accepted nodes; tree: as it is after them."""
        place = {node: index for index, node in enumerate(self.nodes)}
        alive = [node for node in self.nodes if node in tree.nodes]
        kept = Kept(
            tuple(place[node] for node in path if node in place), tuple(place[node] for node in alive)
        )
        self.nodes = alive
        return kept
