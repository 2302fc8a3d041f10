"""A drafter that replays recorded texts with modelled speed and acceptance, for emulated devices with a real verifier.

At each position it drafts the target's recorded token with probability alpha, else another one, and says that it is as
sure as that. Which positions are wrong depends only on the request's seed and the position, so that all policies see
the same drafts, and a simulation of the same requests too (shared/compute/modelled_drafter.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.compute.drafter import DraftRequest, DraftResult, NoCapacity
from shared.compute.modelled import guesses_right
from shared.compute.modelled_drafter import CHUNK
from shared.speculative.survival import Survival

FEED_SHARE: Final = 0.1  # cost of each further token of a decode, relative to the first


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


@dataclass(frozen=True, slots=True)
class _Work:
    """A request under way, the survival of the tokens that it will draft, and its duration in seconds."""

    request: DraftRequest
    survival: bytes
    seconds: float


class ReplayDrafter:
    """Drafter that replays recorded texts. Requests are served in order, each completely in one step.

    A draft takes what its decodes would: one for each chunk of tokens that are not cached and one for each further
    drafted token, each draft_ms · (1 + FEED_SHARE · further tokens).
    """

    def __init__(self, recordings: Recordings, alpha: float, draft_ms: float, capacity: int = 8) -> None:
        self.vocabulary, self.vocab = recordings.vocabulary, recordings.vocab
        self.capacity = capacity
        self._recordings = recordings
        self._alpha = alpha
        self._draft_s = draft_ms / 1e3
        self._text_of: dict[str, int | None] = {}  # by session
        self._cached: dict[str, Sequence[int]] = {}  # by session; the last drafted token is not fed
        self._works: dict[str, _Work] = {}

    def start(self, request: DraftRequest) -> None:
        """Start a request, replacing one of the same session. Raises NoCapacity."""
        new = request.session not in self._text_of
        if new and len(self._text_of) >= self.capacity:
            raise NoCapacity(f"{self.capacity} sessions are open")
        if new:
            self._text_of[request.session] = self._recordings.of(request.ids)
        survival = self._survival(request)
        seconds = self._draft_s * self._decodes(request, len(survival))
        self._works[request.session] = _Work(request, survival, seconds)

    def step(self) -> list[DraftResult]:
        """Run one decode; returns the requests that it finished."""
        if not self._works:
            return []
        session = next(iter(self._works))
        work = self._works.pop(session)
        base = len(work.request.ids)
        tokens = tuple(self._token(work.request, base + i) for i in range(len(work.survival)))
        self._cached[session] = (*work.request.ids, *tokens[:-1])
        return [DraftResult(session, base, tokens, work.survival, round(work.seconds * 1e6))]

    def busy(self) -> bool:
        """Whether any request is under way."""
        return bool(self._works)

    def costs_s(self) -> Sequence[float]:
        """Modelled seconds of the next step."""
        return [work.seconds for work in self._works.values() if work.seconds][:1]

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        self._text_of.pop(session, None)
        self._cached.pop(session, None)
        self._works.pop(session, None)

    def set_threads(self, threads: int) -> None:
        """Ignored: the scenario gives a device's speed."""

    def close(self) -> None:
        """Forget all sessions."""
        self._text_of.clear()
        self._cached.clear()
        self._works.clear()

    def _survival(self, request: DraftRequest) -> bytes:
        """Survival bytes of the tokens to draft: k, or fewer where the request stops."""
        survival = Survival(request.stop_below)
        for _ in range(request.k):
            if not survival.add(self._alpha):
                break
        return bytes(survival.bytes)

    def _decodes(self, request: DraftRequest, drafted: int) -> float:
        """The cost of a draft of so many tokens, in decodes of one token."""
        ids, cached = request.ids, self._cached.get(request.session, ())
        common = next((i for i, (a, b) in enumerate(zip(cached, ids, strict=False)) if a != b), len(cached))
        fed = len(ids) - min(common, len(ids) - 1)  # the last one is always fed: the first guess follows it
        chunks = -(-fed // CHUNK)
        return chunks + max(0, drafted - 1) + FEED_SHARE * (fed - chunks)

    def _token(self, request: DraftRequest, position: int) -> int:
        """The recorded token or another one; beyond the recording any token."""
        number = self._text_of[request.session]
        text = self._recordings.texts[number] if number is not None else ()
        token = text[position] if position < len(text) else 0
        is_right = guesses_right(request.sampling.seed, position, self._alpha)
        return token if is_right else (token + 1) % request.sampling.vocab
