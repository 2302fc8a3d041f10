"""The baseline with the attention implementation that is fastest on this machine."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cli.baseline import Baseline

ATTENTIONS: Final = ("sdpa", "eager")
PROBE_TOKENS: Final = 24


@asynccontextmanager
async def fastest_baseline(target: Path, dtype: str, prompts: Sequence[str]) -> AsyncIterator[Baseline]:
    """The baseline process, warmed up on these prompts with its fastest attention. Raises CommandError."""
    async with Baseline(target, dtype=dtype) as rival:
        await best_attention(rival, prompts, raw=True)
        yield rival


async def best_attention(rival: Baseline, prompts: Sequence[str], *, raw: bool) -> None:
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
