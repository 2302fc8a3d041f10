"""One user's decoding at rank 0: the tree, what the target said, and the tokens that were emitted."""

from collections.abc import Sequence

from simulator.pipeline.acceptance import ModelledText
from simulator.pipeline.draft_tree import Decision, DraftTree
from simulator.pipeline.ring import Row


class Session:
    """A user. emitted: the tokens of the answer so far. tree: its draft; the root is the last committed token."""

    def __init__(self, user: int, text: ModelledText) -> None:
        self.user, self.text = user, text
        self.tree = DraftTree(0)  # of the prompt, whose last token is the first root
        self.emitted: list[int] = []
        self._keys = {self.tree.root: text.start()}
        self._choices: dict[int, int] = {}  # the target's token after a node, where it is known

    def row(self, node: int) -> Row:
        """A living node as it is sent."""
        here = self.tree[node]
        return Row(self.user, node, here.parent, here.token, here.position)

    def key(self, node: int) -> int:
        """The prefix that ends with a living node."""
        return self._keys[node]

    def add(self, parent: int, token: int, logprob: float) -> int:
        """See DraftTree.add."""
        node = self.tree.add(parent, token, logprob)
        if node not in self._keys:
            self._keys[node] = self.text.extend(self._keys[parent], token)
        return node

    def expand(self, node: int, children: int) -> list[int]:
        """Let the drafter propose children of a living node; their numbers, the likeliest first."""
        found = self.text.candidates(self._keys[node], children)
        return [self.add(node, token, logprob) for token, logprob in found]

    def learn(self, rows: Sequence[Row]) -> None:
        """Note the target's own tokens after rows that returned, of which dead ones no longer matter."""
        for row in rows:
            if row.user == self.user and row.node in self.tree:
                self._choices[row.node] = self.text.own_token(self._keys[row.node])

    def advance(self) -> list[Decision]:
        """Emit the target's tokens as far as they are known; one decision for each."""
        decisions = []
        while (token := self._choices.get(self.tree.root)) is not None:
            key = self._keys[self.tree.root]
            decision = self.tree.decide(token)
            for node in decision.dead:
                del self._keys[node]
                self._choices.pop(node, None)
            if decision.flushed:
                self._keys[decision.root] = self.text.extend(key, token)
            self.emitted.append(token)
            decisions.append(decision)
        return decisions
