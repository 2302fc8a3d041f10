"""How transformers attends fastest on this machine: a baseline runs at its best."""

from collections.abc import Sequence
from typing import Final

from cli.bench.rival import Rival

ATTENTIONS: Final = ("sdpa", "eager")
PROBE_TOKENS: Final = 24


async def best_attention(rival: Rival, prompts: Sequence[str], *, raw: bool) -> None:
    """Have transformers attend from now on in the way that is fastest for all these prompts as one batch.

    raw: prompts are continued as they stand; else they are chat messages.
    """
    took = {}
    for attention in ATTENTIONS:
        took[attention] = (await rival.ask(_job(prompts, PROBE_TOKENS, raw, attention))).seconds
    best = min(took, key=lambda attention: took[attention])
    await rival.ask(_job(prompts[:1], 2, raw, best))


def _job(prompts: Sequence[str], tokens: int, raw: bool, attention: str) -> dict[str, object]:
    return {
        "prompts": list(prompts),
        "tokens": tokens,
        "raw": raw,
        "assisted": False,
        "attention": attention,
    }
