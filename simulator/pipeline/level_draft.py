"""A draft tree drafted level by level, as EAGLE-2 (arXiv 2406.16858) does: only the best of a level are expanded."""

from heapq import nsmallest
from typing import NamedTuple

from simulator.pipeline.session import Session


class _Candidate(NamedTuple):
    """A drafted token. cost: -score. In this order candidates are ranked: every prefix is a subtree."""

    cost: float
    number: int
    parent: int
    token: int
    logprob: float
    key: int


class LevelDraft:
    """A tree over a session's root, apart from its own tree until it is chosen from.

    width: nodes that are expanded on a level, and children of each.
    """

    def __init__(self, session: Session, width: int) -> None:
        self.session, self.width = session, width
        self._found: list[_Candidate] = []
        self._level: list[_Candidate] = [_Candidate(0.0, -1, -1, 0, 0.0, session.key(session.tree.root))]

    def step(self) -> None:
        """Draft the next level, which takes one pass of the drafter over at most `width` nodes."""
        newest: list[_Candidate] = []
        for above in self._level:
            for token, logprob in self.session.text.candidates(above.key, self.width):
                number = len(self._found) + len(newest)
                key = self.session.text.extend(above.key, token)
                newest.append(_Candidate(above.cost - logprob, number, above.number, token, logprob, key))
        self._found += newest
        self._level = nsmallest(self.width, newest)

    def choose(self, nodes: int) -> list[int]:
        """Add the best candidates to the session's tree; node numbers in the order of their ranks."""
        numbers = {-1: self.session.tree.root}
        chosen = nsmallest(nodes, self._found)
        for one in chosen:
            numbers[one.number] = self.session.add(numbers[one.parent], one.token, one.logprob)
        return [numbers[one.number] for one in chosen]

    def ranks_on_path(self) -> list[int]:
        """Ranks, from 0, of the candidates that are the target's own continuation: as far as there are any."""
        found = {(one.parent, one.token): one for one in self._found}
        ranks = {one.number: rank for rank, one in enumerate(sorted(self._found))}
        text, parent, key = self.session.text, -1, self.session.key(self.session.tree.root)
        path = []
        while (one := found.get((parent, text.own_token(key)))) is not None:
            path.append(ranks[one.number])
            parent, key = one.number, one.key
        return path
