"""A target model with a modelled cost and the text of `modelled.py`. Its KV is the list of tokens fed."""

from collections.abc import Callable, Sequence

from shared.compute.modelled import Chain, choose, extend, modelled_vocabulary
from shared.compute.modelled_pool import ModelledPool
from shared.compute.target import Choices, TargetRow
from shared.protocol.messages import TokenLogprobs


class _Cache(Chain):
    """One session's KV."""

    __slots__ = ("prompt",)

    def __init__(self, prompt: Sequence[int], shared: Sequence[int]) -> None:
        super().__init__(shared)
        self.prompt = tuple(prompt)


class ModelledTarget:
    """TargetModel with a cost law: a pass takes beta + per_token · (new tokens) + per_context · (cached tokens).

    cost_ms: another law, of rows as (new tokens, cached tokens).
    """

    def __init__(
        self,
        vocab: int = 49152,
        *,
        kv_tokens: int = 16384,
        page_tokens: int = 16,
        max_context: int = 8192,
        beta_ms: float = 20.0,
        per_token_ms: float = 1.0,
        per_context_ms: float = 0.0,
        prefix_sharing: bool = True,
        stop_every: int = 0,
        cost_ms: Callable[[Sequence[tuple[int, int]]], float] | None = None,
    ) -> None:
        self.vocabulary = modelled_vocabulary(vocab)
        self.vocab = vocab
        self.max_context = max_context
        self.pool_tokens = kv_tokens // page_tokens * page_tokens
        self.threads = 1
        self._pool = ModelledPool(kv_tokens // page_tokens, page_tokens, prefix_sharing)
        self._caches: dict[str, _Cache] = {}
        self._beta_s = beta_ms / 1e3
        self._per_token_s = per_token_ms / 1e3
        self._per_context_s = per_context_ms / 1e3
        self._stop_every = stop_every
        self._cost_ms = cost_ms

    def cached(self, session: str) -> int:
        """Committed tokens whose KV is held; 0 for an unknown session."""
        return len(self._caches[session].tokens) if session in self._caches else 0

    def admit(self, session: str, prompt: Sequence[int], protect: Sequence[str], length: int) -> bool:
        """Reserve KV for `length` tokens of a session; False when there are no pages."""
        if length > self.max_context:
            return False
        if session not in self._caches:
            self._caches[session] = _Cache(prompt, self._pool.share(session, prompt))
        if self._pool.reserve(session, length, protect, lambda victim: self._caches.pop(victim, None)):
            return True
        if not self._caches[session].tokens:
            del self._caches[session]
        return False

    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """Run one forward pass over rows of different sessions. Raises ValueError when a row does not fit the cache."""
        return [self._row(row) for row in rows]

    def keep(self, session: str, length: int, path: Sequence[int] = ()) -> None:
        """Roll back to the first `length` tokens, followed by the accepted draft nodes of `path`."""
        cache = self._caches[session]
        if tuple(path) == tuple(range(len(path))):  # of a chain: what is accepted lies where it belongs
            cache.cut(length + len(path))
        else:
            accepted = [cache.tokens[length + node] for node in path]
            cache.cut(length)
            cache.feed(accepted)
        self._pool.shrink(session, len(cache.tokens))

    def forget(self, session: str) -> None:
        """Free all pages of a session. Unknown sessions are ignored."""
        self._caches.pop(session, None)
        self._pool.forget(session)

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """Modelled seconds of a forward pass."""
        if self._cost_ms is not None:
            return self._cost_ms([(len(row.tokens), row.start) for row in rows]) / 1e3
        new = sum(len(row.tokens) for row in rows)
        context = sum(row.start for row in rows)
        return self._beta_s + self._per_token_s * new + self._per_context_s * context

    def set_threads(self, threads: int) -> None:
        """Record the thread count; the modelled cost does not depend on it."""
        self.threads = threads

    def pages(self) -> tuple[int, int]:
        """KV pages (used, total)."""
        return self._pool.used, self._pool.pages

    def sessions(self) -> frozenset[str]:
        """Sessions with anything cached."""
        return frozenset(self._caches)

    def _row(self, row: TargetRow) -> Choices:
        cache = self._caches.get(row.session)
        if cache is None or row.start != len(cache.tokens):
            raise ValueError(f"{row.session}: row starts at {row.start}, cached {self.cached(row.session)}")
        if row.start + len(row.tokens) > self._pool.room(row.session):
            raise ValueError(f"{row.session}: row of {len(row.tokens)} tokens beyond its pages")
        if row.tokens and not 0 <= min(row.tokens) <= max(row.tokens) < self.vocab:
            raise ValueError(f"{row.session}: token beyond the vocabulary of {self.vocab}")
        cache.feed(row.tokens)
        self._pool.offer(row.session, cache.prompt[: min(len(cache.prompt), row.start + row.committed)])
        if not row.choose:
            return Choices(())
        chain = cache.states[row.start + row.committed :]
        states = _states(row, chain[0]) if row.parents else chain
        tokens = tuple(choose(state, row.sampling, self._stop_every) for state in states)
        if row.logprobs < 0:
            return Choices(tokens)
        return Choices(tokens, tuple(modelled_logprobs(token, row) for token in tokens))


def _states(row: TargetRow, root: int) -> list[int]:
    """The state after the last committed token and after every node of a draft's tree: [1 + drafts]."""
    states = [root]
    for token, parent in zip(row.tokens[row.committed :], row.parents, strict=True):
        states.append(extend(states[parent + 1], token))
    return states


def modelled_logprobs(token: int, row: TargetRow) -> TokenLogprobs:
    """Made-up logprobs, a function of the token: itself first, then the ids after it, each half as likely."""
    ids = tuple((token + i) % row.sampling.vocab for i in range(row.logprobs))
    return (-0.5, ids, tuple(-0.5 - 0.69 * i for i in range(row.logprobs)))
