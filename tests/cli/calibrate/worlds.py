"""A clock that modelled compute moves, and figures to make profiles of."""

from collections.abc import Sequence
from pathlib import Path

from cli.calibrate.measured import Measured
from cli.calibrate.pair import CalibratedModel
from shared.compute.drafter import DraftResult
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.compute.target import Choices, TargetRow
from shared.planning.cost import Packed
from shared.planning.fit import Timed

MODEL = CalibratedModel(
    name="small",
    folder=Path("small"),
    draft=Path("small.gguf"),
    device="cpu",
    dtype="float32",
    threads=2,
    layers=30,
    hidden=576,
    feed_forward=1536,
    kv_bytes=46080,
    pool_tokens=16384,
)
LAW = Packed(beta_ms=60.0, per_token_ms=2.0, per_context_ms=0.001)
MEASURED = Measured(
    passes=[
        Timed(rows, new, cached, LAW.cost_ms([(new, cached)] * rows))
        for cached in (128, 512)
        for rows in (1, 4, 8)
        for new in (1, 2, 5, 9)
    ],
    draft_ms={1: 8.0, 4: 26.0},
    alphas={0.0: 0.85, 1.0: 0.75},
)


class Clock:
    """Seconds that pass when compute says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class TimedTarget(ModelledTarget):
    """A modelled target whose passes take their cost on the clock; remembers which there were."""

    def __init__(self, clock: Clock, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.clock = clock
        self.passed: list[tuple[int, int, int]] = []  # rows, new and cached tokens of the first

    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        self.clock.now_s += self.cost_s(rows)
        self.passed.append((len(rows), len(rows[0].tokens), rows[0].start))
        return super().forward(rows)


class TimedDrafter(ModelledDrafter):
    """A modelled drafter, likewise."""

    def __init__(self, clock: Clock, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.clock = clock

    def step(self) -> list[DraftResult]:
        self.clock.now_s += next(iter(self.costs_s()), 0.0)
        return super().step()
