"""A session's draft tree: numbered nodes below the last committed token. Pure: no model, no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp

from shared.compute.tree_drafter import MAX_DEPTH, MAX_NODES, ROOT, Expansion
from shared.speculative.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Node:
    """A candidate token. position: absolute, in the session.

    score: sum of log_prob along the path, from the root that there was when the tree began.
    """

    number: int
    parent: int  # ROOT when its parent was the root and no node
    token: int
    position: int
    score: float


class DraftTree:
    """The alive nodes of a session. base_len: committed tokens, the root included."""

    def __init__(self, base_len: int) -> None:
        self.base_len = base_len
        self.root = ROOT  # number of the node that is the root now; ROOT if it was none
        self.nodes: dict[int, Node] = {}  # alive, by number
        self.next_number = 0
        self._children: dict[int, list[int]] = {}  # of every expanded node, by number; of the root too
        self._root_score = 0.0

    def key(self, node: int) -> int:
        """The number of a node, that of the root for ROOT."""
        return self.root if node == ROOT else node

    def depth(self, node: int) -> int:
        """Depth below the root, which has depth 0. Raises KeyError."""
        number = self.key(node)
        return 0 if number == self.root else self.nodes[number].position - self.base_len + 1

    def position(self, node: int) -> int:
        """Absolute position of a node's token. Raises KeyError."""
        return self.base_len - 1 + self.depth(node)

    def expanded(self, node: int) -> bool:
        """Whether a node has its children."""
        return self.key(node) in self._children

    def children(self, node: int) -> tuple[Node, ...]:
        """Children of a node, likeliest first; () before it is expanded."""
        return tuple(self.nodes[child] for child in self._children.get(self.key(node), ()))

    def parent(self, node: int) -> int:
        """Number of a node's parent; ROOT if that is the root. Raises KeyError."""
        parent = self.nodes[node].parent
        return ROOT if parent == self.root else parent

    def path(self, node: int) -> list[int]:
        """Tokens from the root, itself excluded, down to a node. Raises KeyError."""
        tokens = []
        while node not in (ROOT, self.root):
            tokens.append(self.nodes[node].token)
            node = self.nodes[node].parent
        return tokens[::-1]

    def survival(self, node: int) -> float:
        """The probability that a node and all before it, below the root, are the target's. Raises KeyError."""
        return exp(self.nodes[node].score - self._root_score)

    def is_open(self, node: int, width: int) -> bool:
        """Whether a node is alive, may be expanded, and the tree has room for that many children."""
        alive = self.key(node) == self.root or node in self.nodes
        if not alive or self.expanded(node) or self.depth(node) >= MAX_DEPTH:
            return False
        return len(self.nodes) + width <= MAX_NODES

    def frontier(self, limit: int) -> list[int]:
        """Nodes that may be expanded next: the likeliest first, the older of equals; ROOT when the root may be."""
        if not self.expanded(ROOT):
            return [ROOT][:limit]
        leaves = [node for node in self.nodes.values() if self.is_open(node.number, 1)]
        leaves.sort(key=lambda node: (-node.score, node.number))
        return [node.number for node in leaves[:limit]]

    def add(self, expansion: Expansion) -> None:
        """Add the children of a node. Raises ValueError where that cannot be: a stale, repeated or too deep node."""
        width = len(expansion.candidates)
        if not self.is_open(expansion.node, width) or expansion.first < self.next_number:
            raise ValueError(f"node {expansion.node} cannot be expanded")
        parent = self.key(expansion.node)
        base = self._root_score if parent == self.root else self.nodes[parent].score
        position = self.position(expansion.node) + 1
        numbers = range(expansion.first, expansion.first + width)
        for number, one in zip(numbers, expansion.candidates, strict=True):
            self.nodes[number] = Node(number, parent, one.token, position, base + one.log_prob)
        self._children[parent] = list(numbers)
        self.next_number = expansion.first + width

    def graft(
        self, first: int, tokens: Sequence[int], parents: Sequence[int], log_probs: Sequence[float]
    ) -> None:
        """Add nodes of a like tree, from number `first` on; those of one parent stand side by side.

        Nodes whose parent is dead, expanded already or too deep are left out, and their numbers are used up. Raises
        ValueError for a number that was given out before.
        """
        for parent, family in groupby(range(len(tokens)), key=lambda at: parents[at]):
            places = list(family)
            candidates = tuple(Candidate(tokens[at], log_probs[at]) for at in places)
            number = first + places[0]
            if self.is_open(parent, len(places)):
                self.add(Expansion(parent, number, candidates))
            elif number < self.next_number:
                raise ValueError(f"node {number} is known")
            self.next_number = number + len(places)

    def follow(self, tokens: Sequence[int]) -> list[int]:
        """The nodes that tokens after the root lead to, as far as they are in the tree."""
        nodes: list[int] = []
        at = self.root
        for token in tokens:
            children = (self.nodes[child] for child in self._children.get(at, ()))
            match = next((child.number for child in children if child.token == token), None)
            if match is None:
                break
            nodes.append(match)
            at = match
        return nodes

    def advance(self, tokens: Sequence[int]) -> int:
        """Move the root over newly committed tokens. Returns its number; ROOT if they left the tree, now empty."""
        path = self.follow(tokens)
        if len(path) < len(tokens):
            self.restart(self.base_len + len(tokens))
        elif path:
            self.base_len += len(tokens)
            self.root = path[-1]
            self._root_score = self.nodes[self.root].score
            self._prune()
        return self.root

    def restart(self, base_len: int) -> None:
        """Drop all nodes; the last of base_len committed tokens is the root. Numbers go on from where they were."""
        self.base_len, self.root, self._root_score = base_len, ROOT, 0.0
        self.nodes, self._children = {}, {}

    def _prune(self) -> None:
        """Drop all nodes that do not follow the root."""
        alive, waiting = {}, [self.root]
        children = {}
        while waiting:
            number = waiting.pop()
            if number in self._children:
                children[number] = self._children[number]
                alive.update({child: self.nodes[child] for child in children[number]})
                waiting += children[number]
        self.nodes, self._children = alive, children
