"""The draft tree of one session while the target's answers arrive piece by piece. Pure.

For the simulated methods alone: unlike the deployed `shared/compute/draft_tree.py` it merges single children into nodes
that have some already, numbers roots too, and says which nodes died.

The tree hangs from the last committed token, its root. Whoever drafts adds nodes; whoever verifies reports the target's
own token after the root. If a child of the root has that token, the child becomes the root and everything that is not
below it dies. Otherwise the whole tree dies and the token is the root of a new one. So the tokens that become roots are
the target's own, whatever was drafted; see `rule.accept_tree` for a tree that is decided at once.

Nodes are numbered in the order of their creation, over the whole session, and keep their numbers. A node dies once, and
its memory is freed then: no operation depends on the length of the session.

Source: FlowSpec (arXiv 2507.02620), whose trees are decided while later pieces are still in the pipeline.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

NO_PARENT: Final = -1


@dataclass(slots=True)
class DraftNode:
    """A node. score: sum of the log-probabilities from the root that began the tree down to here, at most 0.

    parent: the node's number, -1 for a root that was no draft. position: distance from the session's first root.
    children: their numbers by token.
    """

    token: int
    parent: int
    score: float
    position: int
    children: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a token of the target did to the tree. flushed: no child had it, so `root` is a new node.

    dead: numbers of the nodes that died, each before its children. The old root is the first of them.
    """

    token: int
    root: int
    flushed: bool
    dead: tuple[int, ...]


class DraftTree:
    """The tree of a session. token: the last committed one; it becomes node 0, the root, at position 0."""

    def __init__(self, token: int) -> None:
        self._nodes: dict[int, DraftNode] = {}
        self._created = 0
        self.root = self._create(token, NO_PARENT, 0.0, 0)

    def __len__(self) -> int:
        """Number of living nodes, the root included."""
        return len(self._nodes)

    def __contains__(self, node: int) -> bool:
        """Is the node alive? The root is."""
        return node in self._nodes

    def __getitem__(self, node: int) -> DraftNode:
        """A living node. Raises KeyError."""
        return self._nodes[node]

    @property
    def created(self) -> int:
        """Number of nodes ever created: the number of the next one."""
        return self._created

    def add(self, parent: int, token: int, logprob: float) -> int:
        """The number of `parent`'s child with this token, which is created unless there is one.

        logprob: of the token after its parent. Raises KeyError for a parent that is not alive, ValueError for a
        log-probability above 0.
        """
        above = self._nodes[parent]
        known = above.children.get(token)
        if known is not None:
            return known
        if not logprob <= 0.0:
            raise ValueError(f"a log-probability is at most 0, not {logprob}")
        node = self._create(token, parent, above.score + logprob, above.position + 1)
        above.children[token] = node
        return node

    def decide(self, token: int) -> Decision:
        """Move the root to its child with the target's own token, or begin a new tree with that token."""
        old = self._nodes[self.root]
        child = old.children.pop(token, None)
        dead = tuple(self._remove(self.root))
        flushed = child is None
        self.root = self._create(token, NO_PARENT, 0.0, old.position + 1) if child is None else child
        return Decision(token, self.root, flushed, dead)

    def order(self) -> list[int]:
        """Living nodes by falling score, then by creation. Every prefix is a subtree that contains the root."""
        return sorted(self._nodes, key=lambda node: (-self._nodes[node].score, node))

    def score(self, node: int) -> float:
        """Log-probability of a living node, given the root. Raises KeyError."""
        return self._nodes[node].score - self._nodes[self.root].score

    def depth(self, node: int) -> int:
        """Distance of a living node from the root. Raises KeyError."""
        return self._nodes[node].position - self._nodes[self.root].position

    def path(self, node: int) -> list[int]:
        """Nodes from the root, which is not among them, to a living node. Raises KeyError."""
        found = []
        while node != self.root:
            found.append(node)
            node = self._nodes[node].parent
        return found[::-1]

    def _create(self, token: int, parent: int, score: float, position: int) -> int:
        node = self._created
        self._created += 1
        self._nodes[node] = DraftNode(token, parent, score, position)
        return node

    def _remove(self, top: int) -> Iterator[int]:
        """Remove a node and all below it. Each node is removed once in its life."""
        waiting = [top]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(self._nodes.pop(node).children.values())
