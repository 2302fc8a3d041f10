"""Whether the ranks of a group fit together. Pure."""

from collections.abc import Sequence
from typing import Final

from services.verifier.stages.messages import Facts

SAME: Final = {  # what has to be equal, its name, and what to do when it is not
    "release": ("version of Outrider", "install the same version on all of them"),
    "libraries": ("libraries", "install the same versions on all of them"),
    "model": ("model files (their digest)", "give all of them the same files in OUTRIDER_MODEL_DIR"),
    "dtype": ("dtype", "give all of them the same OUTRIDER_DTYPE"),
    "kv_tokens": ("KV pool", "give all of them the same OUTRIDER_KV_TOKENS"),
    "page_tokens": ("page size", "give all of them the same OUTRIDER_PAGE_TOKENS"),
}


def disagreement(facts: Sequence[Facts]) -> str:
    """The first rank that does not fit rank 0, why, and the fix, in a line; "" when all agree. facts: 0's first."""
    mine, *others = facts
    for rank, other in enumerate(others, start=1):
        if other.rank != rank:
            return f"rank {other.rank} answered in the place of rank {rank}; start each rank once"
        for field, (name, fix) in SAME.items():
            here, there = getattr(mine, field), getattr(other, field)
            if here != there:
                return f"rank {rank} differs from rank 0 in its {name}: {there}, not {here}; {fix}"
    return ""
