"""A drafter in the verifier's process for simulations: modelled text never repeats, so lookups are modelled as well."""

from collections.abc import Sequence
from typing import Final

from shared.compute.drafter import DraftRequest
from shared.compute.modelled import Chain, choose, extend, guesses_right

_MATCH_KEY: Final = 0x6D61746368  # makes its luck independent of the devices'
_TOKEN_KEY: Final = 0x746F6B656E


class ModelledCoreDrafter:
    """CoreDrafter that has a draft at a share `match` of positions; each token of it is right with probability alpha.

    Both depend on the session's seed and the position alone. It takes no time.
    """

    def __init__(self, alpha: float, match: float, stop_every: int = 0) -> None:
        self._alpha, self._match, self._stop_every = alpha, match, stop_every
        self._chains: dict[str, Chain] = {}

    def draft(self, requests: Sequence[DraftRequest]) -> list[tuple[int, ...]]:
        """For each request k tokens, or none."""
        return [self._draft(request) for request in requests]

    def forget(self, session: str) -> None:
        """Free everything held for a session."""
        self._chains.pop(session, None)

    def _draft(self, request: DraftRequest) -> tuple[int, ...]:
        sampling, position = request.sampling, len(request.ids)
        if not guesses_right(sampling.seed ^ _MATCH_KEY, position, self._match):
            return ()
        state = self._state(request.session, request.ids)
        tokens = []
        for at in range(position, position + request.k):
            token = choose(state, sampling, self._stop_every)
            if not guesses_right(sampling.seed ^ _TOKEN_KEY, at, self._alpha):
                token = (token + 1) % sampling.vocab
            state = extend(state, token)
            tokens.append(token)
        return tuple(tokens)

    def sessions(self) -> frozenset[str]:
        """Sessions with anything held."""
        return frozenset(self._chains)

    def _state(self, session: str, ids: Sequence[int]) -> int:
        """The state after a session's tokens, to which later calls only add."""
        chain = self._chains.setdefault(session, Chain())
        chain.cut(chain.common(ids))
        chain.feed(ids[len(chain.tokens) :])
        return chain.states[-1]
