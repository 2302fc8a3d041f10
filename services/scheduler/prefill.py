"""Prefill budget of a batch: limits prompt chunks, so that a long prompt does not stall decoding."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from shared.planning.cost import CostLaw, Row

# Prompts make progress whatever the cost law says; smaller chunks would read the weights too often.
MIN_CHUNK_TOKENS: Final = 128


def chunk_budget(max_tokens: int, rows: Sequence[Row], law: CostLaw | None, stall_ms: float) -> int:
    """Prefill tokens, up to `max_tokens`, that lengthen a pass over `rows` by at most stall_ms.

    Returns `max_tokens` without a cost law, or when no decoding session waits for the pass (stall_ms infinite).
    """
    if law is None:
        return max_tokens
    alone = law.cost_ms(rows)
    fits = bisect_right(
        range(max_tokens), stall_ms, key=lambda tokens: law.cost_ms([*rows, (tokens + 1, 0)]) - alone
    )
    return min(max_tokens, max(fits, MIN_CHUNK_TOKENS))


def share_budget(missing: Sequence[int], budget: int) -> list[int]:
    """Share a budget of tokens among prompts in order of arrival.

    A prompt takes at most half of the remaining budget while others wait. What is left over is shared again.

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
