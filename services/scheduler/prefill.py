"""How much of waiting prompts rides in a batch, so that a long one does not stall a cycle."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from shared.planning.cost import CostLaw, Row

MIN_CHUNK_TOKENS: Final = (
    128  # so that prompts get on, whatever the law says; fewer would pay for the weights too often
)


def chunk_budget(most: int, rows: Sequence[Row], law: CostLaw | None, stall_ms: float) -> int:
    """Prefill tokens that may join a pass over `rows`: as many as make it at most stall_ms longer, up to `most`.

    Without a law, or when nobody waits for the pass (stall_ms infinite), `most`.
    """
    if law is None:
        return most
    alone = law.cost_ms(rows)
    fits = bisect_right(
        range(most), stall_ms, key=lambda tokens: law.cost_ms([*rows, (tokens + 1, 0)]) - alone
    )
    return min(most, max(fits, MIN_CHUNK_TOKENS))


def share_budget(missing: Sequence[int], budget: int) -> list[int]:
    """The budget dealt to prompts in order of arrival, in tokens; none takes more than half of what is left
    while others wait, and what nobody wanted is dealt again.

    >>> share_budget([1000, 30, 500], 512)
    [256, 30, 226]
    """
    rest = budget
    chunks = []
    for others, tokens in zip(range(len(missing) - 1, -1, -1), missing, strict=True):
        chunk = min(tokens, (rest + 1) // 2 if others else rest)
        chunks.append(chunk)
        rest -= chunk
    for at, tokens in enumerate(missing):
        more = min(tokens - chunks[at], rest)
        chunks[at] += more
        rest -= more
    return chunks
