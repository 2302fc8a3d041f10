"""Whether the ranks of a group fit together. Pure."""

from collections.abc import Sequence
from typing import Final

from services.verifier.stages.messages import Facts

SAME: Final = {
    "release": "Outrider",
    "libraries": "libraries",
    "model": "model files",
    "dtype": "OUTRIDER_DTYPE",
    "kv_tokens": "OUTRIDER_KV_TOKENS",
    "page_tokens": "OUTRIDER_PAGE_TOKENS",
}


def disagreement(facts: Sequence[Facts]) -> str:
    """The first rank that does not fit rank 0, and why, in one line; "" when all agree. facts: rank 0's first."""
    mine, *others = facts
    for rank, other in enumerate(others, start=1):
        if other.rank != rank:
            return f"rank {other.rank} answered in the place of rank {rank}"
        for field, name in SAME.items():
            here, there = getattr(mine, field), getattr(other, field)
            if here != there:
                return f"rank {rank} has other {name} than rank 0: {there}, not {here}"
    return ""
