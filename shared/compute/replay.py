"""A drafter that replays recorded texts with modelled speed and acceptance, for emulated devices with a real verifier.

At each position it drafts the target's recorded token with probability alpha, else another one. Which positions are
wrong depends only on the seed and the position, so that all policies see the same drafts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.compute.drafter import DraftRequest, DraftResult, NoCapacity
from shared.compute.modelled import guesses_right

FEED_SHARE: Final = 0.1  # cost of a prompt token of a new session, relative to a drafted token


@dataclass(frozen=True, slots=True)
class Recordings:
    """The target's texts (prompt and continuation) and its vocabulary: hash, and number of real tokens."""

    texts: tuple[tuple[int, ...], ...]
    vocabulary: str
    vocab: int

    def of(self, ids: Sequence[int]) -> int | None:
        """Index of the text that begins with these tokens; None when there is none."""
        beginning = tuple(ids)
        return next((n for n, text in enumerate(self.texts) if text[: len(beginning)] == beginning), None)


class ReplayDrafter:
    """Drafter that replays recorded texts. Requests are served in order, each completely in one step."""

    def __init__(
        self, recordings: Recordings, alpha: float, draft_ms: float, seed: int, capacity: int = 8
    ) -> None:
        self.vocabulary, self.vocab = recordings.vocabulary, recordings.vocab
        self.capacity = capacity
        self._recordings = recordings
        self._alpha, self._seed = alpha, seed
        self._draft_s = draft_ms / 1e3
        self._text_of: dict[str, int | None] = {}  # by session
        self._works: dict[str, tuple[DraftRequest, float]] = {}  # with the duration in seconds

    def start(self, request: DraftRequest) -> None:
        """Start a request, replacing one of the same session. Raises NoCapacity."""
        new = request.session not in self._text_of
        if new and len(self._text_of) >= self.capacity:
            raise NoCapacity(f"{self.capacity} sessions are open")
        if new:
            self._text_of[request.session] = self._recordings.of(request.ids)
        fed = len(request.ids) if new else 0
        self._works[request.session] = request, self._draft_s * (request.k + FEED_SHARE * fed)

    def step(self) -> list[DraftResult]:
        """Run one decode; returns the requests that it finished."""
        if not self._works:
            return []
        session = next(iter(self._works))
        request, seconds = self._works.pop(session)
        base = len(request.ids)
        tokens = tuple(self._token(session, base + i, request.sampling.vocab) for i in range(request.k))
        return [DraftResult(session, base, tokens, round(seconds * 1e6))]

    def busy(self) -> bool:
        """Whether any request is under way."""
        return bool(self._works)

    def costs_s(self) -> Sequence[float]:
        """Modelled seconds of the next step."""
        return [seconds for _, seconds in self._works.values() if seconds][:1]

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        self._text_of.pop(session, None)
        self._works.pop(session, None)

    def set_threads(self, threads: int) -> None:
        """Ignored: the scenario gives a device's speed."""

    def close(self) -> None:
        """Forget all sessions."""
        self._text_of.clear()
        self._works.clear()

    def _token(self, session: str, position: int, vocab: int) -> int:
        """The recorded token or another one; beyond the recording any token."""
        number = self._text_of[session]
        text = self._recordings.texts[number] if number is not None else ()
        token = text[position] if position < len(text) else 0
        is_right = guesses_right(self._seed + (number or 0), position, self._alpha)
        return token if is_right else (token + 1) % vocab
