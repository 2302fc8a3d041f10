"""The best one-shot trees for a law: their size, depth, pieces and groups of users, by search over a grid.

How many tokens a tree yields depends on the text, how long it takes on the law. So the first is sampled once for every
shape, the second is worked out, and the few best settings are run. The seeds are others than those of measurements.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Final, NamedTuple

from shared.planning.pieces import PipelineLaw
from simulator.pipeline.acceptance import ModelledText
from simulator.pipeline.level_draft import LevelDraft
from simulator.pipeline.methods.one_shot import OneShot
from simulator.pipeline.run import run_method
from simulator.pipeline.session import Session

SEED: Final = 770_000  # of the samples; measurements have seeds below 10,000
SAMPLES: Final = 400
LEVELS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
WIDTHS: Final = (1, 3, 10)
ROWS: Final = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 112)
PIECES: Final = (1, 2, 3, 4, 5, 8)
FINALISTS: Final = 4
TOKENS: Final = 600  # of a finalist's run


class Yield(NamedTuple):
    """Tokens of a round, mean over the samples, with a tree of this shape. See OneShot."""

    rows: int
    levels: int
    width: int
    tokens: float


@cache
def yields(p1: float) -> tuple[Yield, ...]:
    """What every shape of the grid yields."""
    found = []
    for width in WIDTHS:
        sums: dict[tuple[int, int], int] = {}
        for sample in range(SAMPLES):
            for shape, tokens in _sampled(ModelledText(SEED + sample, p1), width):
                sums[shape] = sums.get(shape, 0) + tokens
        found += [Yield(rows, levels, width, total / SAMPLES) for (rows, levels), total in sums.items()]
    return tuple(found)


def _sampled(text: ModelledText, width: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Tokens of the first round on a text, by (rows, levels)."""
    draft = LevelDraft(Session(0, text), width)
    for level in range(LEVELS[-1] + 1):
        if level:
            draft.step()
        if level not in LEVELS:
            continue
        ranks = draft.ranks_on_path()
        sizes = [rows for rows in ROWS if rows > level] if width > 1 and level else [level + 1]
        for rows in sizes:
            yield (rows, level), 1 + sum(rank < rows - 1 for rank in ranks)


def round_ms(law: PipelineLaw, settings: OneShot, users: int) -> float:
    """About how long a round of all groups takes: that of one group alone, or of what limits them together."""
    groups = min(settings.groups, users)
    rows = -(-settings.rows // settings.pieces) * -(-users // groups)
    last = (settings.pieces - 1) * law.slowest(rows).pass_ms(rows)
    alone = settings.levels * law.draft_ms + law.round_trip_ms(rows) + last
    stage = groups * settings.pieces * law.slowest(rows).pass_ms(rows)
    rank = settings.levels * law.draft_ms + groups * settings.pieces * law.head.pass_ms(rows)
    return max(alone, stage, rank)


def best_one_shot(law: PipelineLaw, p1: float, users: int = 1, chain: bool = False) -> OneShot:
    """The best settings of the grid for so many users together. chain: of width 1, in one piece."""
    stages = len(law.stages)
    groups = sorted(
        {g for g in (1, 2, stages // 2, stages, stages + 1, 3 * stages // 2, 2 * stages) if 1 <= g <= users}
    )
    rated: list[tuple[float, int, OneShot]] = []
    for rows, levels, width, tokens in yields(p1):
        if chain and width > 1:
            continue
        for pieces in PIECES if not chain else (1,):
            if pieces <= max(1, rows // 4):
                for split in groups:
                    settings = OneShot(rows, levels, width, pieces, split)
                    rated.append((-users * tokens / round_ms(law, settings, users), len(rated), settings))
    finalists = [settings for _, _, settings in sorted(rated)[:FINALISTS]]
    best = {g: next(s for _, _, s in sorted(rated) if s.groups == g) for g in groups}
    finalists += [settings for settings in best.values() if settings not in finalists]
    return max(finalists, key=lambda settings: _rate(settings, law, p1, users))


def best_decoding(law: PipelineLaw, users: int) -> OneShot:
    """Autoregressive decoding: all users in one batch, or a group for every stage, whichever is faster."""
    plain = OneShot(1, 0, 1)
    stages = min(users, len(law.stages))
    return min((replace(plain, groups=g) for g in {1, stages}), key=lambda s: round_ms(law, s, users))


def _rate(settings: OneShot, law: PipelineLaw, p1: float, users: int) -> float:
    runs = [run_method(settings, law, p1, users, TOKENS * max(1, users // 4), SEED + seed) for seed in (1, 2)]
    return sum(run.tokens_per_s for run in runs)
