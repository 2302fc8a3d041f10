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
    async with Baseline(target, dtype=dtype) as baseline:
        await best_attention(baseline, prompts, raw=True)
        yield baseline


async def best_attention(baseline: Baseline, prompts: Sequence[str], *, raw: bool) -> None:
    """Set the attention that is fastest for all these prompts as one batch.

    raw: prompts are texts to be continued; otherwise they are chat messages.
    """
    seconds = {}
    for attention in ATTENTIONS:
        seconds[attention] = (await baseline.ask(_job(prompts, PROBE_TOKENS, raw, attention))).seconds
    best = min(seconds, key=lambda attention: seconds[attention])
    await baseline.ask(_job(prompts[:1], 2, raw, best))


def _job(prompts: Sequence[str], tokens: int, raw: bool, attention: str) -> dict[str, object]:
    return {
        "prompts": list(prompts),
        "tokens": tokens,
        "raw": raw,
        "assisted": False,
        "attention": attention,
    }
