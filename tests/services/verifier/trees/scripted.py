"""A tree drafter that knows the text: perfect, wrong as often as it is told, or adversarial."""

import random
from collections.abc import Mapping, Sequence
from math import log

from shared.compute.draft_tree import DraftTree
from shared.compute.tree_drafter import ROOT, Expansion, GrowRequest, Growth, check
from shared.speculative.candidates import Candidate


class ScriptedTreeDrafter:
    """right: how often the text's own token is among a node's candidates. texts: by session, prompt included."""

    vocabulary = "tiny"
    capacity = 64

    def __init__(self, texts: Mapping[str, Sequence[int]], vocab: int, right: float, seed: int = 0) -> None:
        self.vocab = vocab
        self._texts = texts
        self._right = right
        self._rng = random.Random(seed)
        self._trees: dict[str, tuple[list[int], DraftTree]] = {}
        self.levels = 0

    def grow(self, requests: Sequence[GrowRequest]) -> list[Growth]:
        """Candidates for the requested nodes."""
        check(requests)
        self.levels += 1
        return [self._grow(request) for request in requests]

    def _grow(self, request: GrowRequest) -> Growth:
        self.advance(request.session, request.ids)
        ids, tree = self._trees.setdefault(request.session, (list(request.ids), DraftTree(len(request.ids))))
        expansions = []
        for node in request.nodes:
            if not tree.is_open(node, request.width):
                continue
            before = [*ids, *tree.path(node)]
            own = self._own(request.session, before)
            wrong = self._rng.sample([t for t in range(3, self.vocab) if t != own], request.width)
            if own is not None and self._rng.random() < self._right:
                wrong[self._rng.randrange(min(2, request.width))] = own
            chances = [0.6, *[0.4 / request.width] * (request.width - 1)]
            key = tree.key(node)
            expansion = Expansion(
                ROOT if key == tree.root else key,
                tree.next_number,
                tuple(Candidate(token, log(chance)) for token, chance in zip(wrong, chances, strict=True)),
            )
            tree.add(expansion)
            expansions.append(expansion)
        return Growth(request.session, len(request.ids), tuple(expansions), 0, 0)

    def _own(self, session: str, before: Sequence[int]) -> int | None:
        text = self._texts[session]
        known = len(before) < len(text) and list(text[: len(before)]) == list(before)
        return text[len(before)] if known else None

    def cost_s(self, requests: Sequence[GrowRequest]) -> float:
        """No time."""
        return 0.0

    def advance(self, session: str, ids: Sequence[int]) -> int:
        """Follow the committed tokens."""
        if session not in self._trees:
            return ROOT
        known, tree = self._trees[session]
        tree.advance(list(ids)[len(known) :])
        self._trees[session] = (list(ids), tree)
        return tree.root

    def forget(self, session: str) -> None:
        """Forget a session."""
        self._trees.pop(session, None)

    def set_threads(self, threads: int) -> None:
        """Nothing to set."""

    def close(self) -> None:
        """Nothing to free."""
