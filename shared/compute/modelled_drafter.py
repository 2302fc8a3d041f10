"""A draft model with a modelled cost that guesses the modelled target's token with a set probability."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.compute.acceptance_record import Replay
from shared.compute.drafter import DraftRequest, DraftResult, NoCapacity
from shared.compute.modelled import Chain, choose, guesses_right, modelled_vocabulary
from shared.speculative.survival import Survival

CHUNK = 64  # maximum tokens of one request in a decode
ROW_SHARE = 0.7  # cost of each further sequence in a decode, relative to the first (llama.cpp on a CPU)
FEED_SHARE = 0.2  # cost of each further token of a sequence, relative to the first


@dataclass(slots=True)
class Work:
    """A request under way: its cache, its drafted tokens and the time spent. missed: where its first wrong one is."""

    request: DraftRequest
    chain: Chain
    drafted: list[int]
    survival: Survival
    spent_s: float = 0.0
    is_fed: bool = False  # whether all of the request's ids are cached
    missed: int | None = None
    stopped: bool = False

    def next_tokens(self) -> Sequence[int]:
        """Tokens that the next decode feeds: the next chunk of the request's ids, or the last guess."""
        if self.is_fed:
            return self.drafted[-1:]
        cached = len(self.chain.tokens)
        return self.request.ids[cached : cached + CHUNK]

    def decodes(self) -> list[int]:
        """How many tokens each decode feeds until the request is finished."""
        left = len(self.request.ids) - len(self.chain.tokens)
        to_draft = self.request.k - len(self.drafted)
        if left <= 0:
            return [1] * max(to_draft, 1)
        chunks = [min(CHUNK, left - fed) for fed in range(0, left, CHUNK)]
        return chunks + [1] * (to_draft - 1)  # the last chunk's decode drafts the first token


class ModelledDrafter:
    """Drafter that drafts the target's own token with probability alpha at each position, else a wrong one.

    It says that it is as sure of each token as alpha, or as the replayed record was there.

    One decode takes draft_ms · (1 + row_share · further sequences + feed_share · further tokens).
    """

    def __init__(
        self,
        alpha: float = 0.8,
        *,
        draft_ms: float = 8.0,
        row_share: float = ROW_SHARE,
        feed_share: float = FEED_SHARE,
        vocab: int = 49152,
        capacity: int = 8,
        kv_tokens: int = 1 << 20,
        stop_every: int = 0,
        replay: Replay | None = None,
    ) -> None:
        """replay: where the drafter is right, in place of alpha."""
        self.vocabulary = modelled_vocabulary(vocab)
        self.vocab = vocab
        self.capacity = capacity
        self.threads = 1
        self._alpha = alpha
        self._draft_s = draft_ms / 1e3
        self._row_share, self._feed_share = row_share, feed_share
        self._kv_tokens = kv_tokens
        self._stop_every = stop_every
        self._replay = replay
        self._caches: dict[str, Chain] = {}
        self._first: dict[str, int] = {}  # position of the first token that a session's drafts may have
        self._works: dict[str, Work] = {}

    def start(self, request: DraftRequest) -> None:
        """Start a request, replacing one of the same session. Raises NoCapacity."""
        known = request.session in self._caches
        if not known and len(self._caches) >= self.capacity:
            raise NoCapacity(f"{self.capacity} sessions are open")
        others = sum(
            len(chain.tokens) for session, chain in self._caches.items() if session != request.session
        )
        if others + len(request.ids) + request.k > self._kv_tokens:
            raise NoCapacity(f"{self._kv_tokens} KV tokens do not hold {len(request.ids)} more")
        chain = self._caches[request.session] if known else Chain()
        self._caches[request.session] = chain
        self._first.setdefault(request.session, len(request.ids))
        # The last id is always fed again, since the first guess is made after it.
        chain.cut(chain.common(request.ids[:-1]))
        self._works[request.session] = Work(request, chain, [], Survival(request.stop_below))

    def step(self) -> list[DraftResult]:
        """Run one decode; returns the requests that it finished."""
        cost = self._cost_s()
        finished = []
        for work in self._active():
            work.spent_s += cost
            if self._advance(work):
                finished.append(self._finish(work))
        return finished

    def busy(self) -> bool:
        """Whether any request is under way."""
        return bool(self._active())

    def _active(self) -> Sequence[Work]:
        """The requests that the next decode advances."""
        return tuple(self._works.values())

    def costs_s(self) -> Sequence[float]:
        """Modelled seconds of the next steps: of a request that is alone, all that it needs; else one."""
        if not self._works or not self._draft_s:
            return ()
        work = next(iter(self._works.values()))
        if len(self._works) > 1 or work.request.stop_below:  # it may stop after any token
            return [self._cost_s()]
        return [self._draft_s * (1 + self._feed_share * (tokens - 1)) for tokens in work.decodes()]

    def _cost_s(self) -> float:
        """Modelled seconds of the next step."""
        rows, tokens = len(self._works), 0
        for work in self._works.values():
            tokens += 1 if work.is_fed else len(work.next_tokens())
        return self._draft_s * (1 + self._row_share * (rows - 1) + self._feed_share * (tokens - rows))

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        self._caches.pop(session, None)
        self._first.pop(session, None)
        self._works.pop(session, None)

    def set_threads(self, threads: int) -> None:
        """Record the thread count; the modelled cost does not depend on it."""
        self.threads = threads

    def close(self) -> None:
        """Forget all sessions."""
        self._caches.clear()
        self._first.clear()
        self._works.clear()

    def sessions(self) -> frozenset[str]:
        """Sessions with anything cached."""
        return frozenset(self._caches)

    def _advance(self, work: Work) -> bool:
        """One decode of a request. Returns whether it is finished."""
        chain, request, drafted = work.chain, work.request, work.drafted
        chain.feed(work.next_tokens())
        if not work.is_fed:
            work.is_fed = len(chain.tokens) == len(request.ids)
            if not work.is_fed:
                return False
        if len(drafted) < request.k and not work.stopped:
            self._guess(work)
        return len(drafted) >= request.k or work.stopped

    def _guess(self, work: Work) -> None:
        """Draft a token after the cached ones."""
        chain, request = work.chain, work.request
        position = len(chain.tokens)
        token = choose(chain.states[-1], request.sampling, self._stop_every)
        if not self._is_right(request, position):
            token = (token + 1) % request.sampling.vocab
            work.missed = position if work.missed is None else work.missed
        work.drafted.append(token)
        work.stopped = not work.survival.add(self._probability(work, position))

    def _is_right(self, request: DraftRequest, position: int) -> bool:
        if self._replay is not None:
            return self._replay.is_right(request.sampling, position - self._first[request.session])
        return guesses_right(request.sampling.seed, position, self._alpha)

    def _probability(self, work: Work, position: int) -> float:
        """How sure the drafter is of the token that it drafted at a position."""
        if self._replay is None:
            return self._alpha
        first = self._first[work.request.session]
        missed = position if work.missed is None else work.missed
        return self._replay.confidence(work.request.sampling, missed - first, position - missed)

    def _finish(self, work: Work) -> DraftResult:
        del self._works[work.request.session]
        request = work.request
        return DraftResult(
            request.session,
            len(request.ids),
            tuple(work.drafted),
            bytes(work.survival.bytes),
            round(work.spent_s * 1e6),
        )
