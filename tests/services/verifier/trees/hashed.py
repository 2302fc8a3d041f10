"""A target whose token is a hash of all tokens before it, behind a cache that rows and decisions must keep in order."""

from collections.abc import Sequence

from services.verifier.trees.tree_session import Step
from shared.compute.target import Choices, TargetRow
from shared.speculative.noise import mix

VOCAB = 5  # few tokens, so that drafts are often right


def target(seed: int, text: Sequence[int]) -> int:
    """The target's own token after a text."""
    state = seed
    for token in text:
        state = mix(state ^ token)
    return mix(state) % VOCAB


def sequential(seed: int, prompt: Sequence[int], emitted: int, stop_ids: Sequence[int] = ()) -> list[int]:
    """What the target says alone, up to the first stop id: that one included."""
    text = list(prompt)
    while len(text) < len(prompt) + emitted:
        text.append(target(seed, text))
        if text[-1] in stop_ids:
            break
    return text[len(prompt) :]


class HashedTarget:
    """One session's cache, as the rows that were sent leave it: committed tokens, and open nodes behind them.

    A choice depends on what the row and the cache say, not on what the session thinks that they say.
    """

    def __init__(self, seed: int, cached: Sequence[int]) -> None:
        self._seed = seed
        self.committed = list(cached)
        self._open: list[tuple[int, int]] = []  # (token, place of its parent or -1)

    def feed(self, row: TargetRow) -> Choices:
        """Check a row against the cache, feed it, and return its choices."""
        assert row.start == len(self.committed)
        assert tuple(row.open) == tuple(parent for _, parent in self._open)
        assert not (row.committed and self._open)
        self.committed += row.tokens[: row.committed]
        nodes = list(zip(row.tokens[row.committed :], row.parents, strict=True))
        before = len(self._open)
        self._open += nodes
        assert all(-1 <= parent < place for place, (_, parent) in enumerate(self._open))
        texts = [self.committed] if row.committed else []
        texts += [self._text(place) for place in range(before, len(self._open))]
        return Choices(tuple(target(self._seed, text) for text in texts))

    def _text(self, place: int) -> list[int]:
        token, parent = self._open[place]
        return [*(self.committed if parent < 0 else self._text(parent)), token]

    def decide(self, step: Step) -> None:
        """Keep what a decision leaves in the cache."""
        assert step.length == len(self.committed)
        last = -1
        for place in step.kept.path:
            token, parent = self._open[place]
            assert parent == last
            self.committed.append(token)
            last = place
        new_place = {place: at for at, place in enumerate(step.kept.open)} | {last: -1}
        self._open = [(self._open[place][0], new_place[self._open[place][1]]) for place in step.kept.open]
