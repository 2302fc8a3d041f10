"""Draft trees of a pair of models: how likely each candidate is the target's token, and what a level costs.

    python -m cli.bench.trees [--model NAME] [--tokens 128] [--repeats 20] [--out FILE]

The target alone writes a text for every prompt and temperature. At each of its positions the draft model ranks
candidates, given the target's own tokens before it. The levels of a tree are timed beside chains of as many sessions,
in one run.
"""

from math import log
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console

from cli.bench.level_timer import LevelTimer
from cli.bench.rank_calibration import RankCalibration
from cli.command.bench_main import bench_main
from cli.command.options import STATE
from cli.models import measure
from cli.models.llama_guard import require_llama
from cli.models.measure import Sample
from cli.models.resolve import resolve
from loadgen.measuring.arms import measure_arms
from loadgen.measuring.decodes import DecodeTimer
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import table
from shared.compute.tree_drafter import WIDTH
from shared.speculative.candidates import SPREAD, Candidate, ranked
from shared.speculative.draw import draw_sure

TEMPERATURES: Final = (0.0, 0.7, 1.0)
SPREADS: Final = (0.4, SPREAD, 0.7, 1.0)
LEVELS: Final = (1, 2, 4, 8)
CONTEXT: Final = 100
CHAIN: Final = 4  # tokens of a timed chain
TIMED_TEMPERATURE: Final = 0.7
RANKS: Final = {
    "temperature": "{temperature}",
    "rank": "{rank}",
    "right": "{right:.1%}",
    "predicted": "{predicted:.1%}",
    "calibration error": "{error:.3f}",
}
FIRST: Final = {
    "temperature": "{temperature}",
    "estimate": "{estimate}",
    "right": "{right:.1%}",
    "predicted": "{predicted:.1%}",
    "calibration error": "{error:.3f}",
    "log loss": "{log_loss:.3f}",
}
LOSSES: Final = {"temperature": "{temperature}", "spread": "{spread}", "log loss": "{log_loss:.3f}"}
COSTS: Final = {"nodes": "{nodes}", "level": "{level:.2f}", "chains": "{chains:.2f}"}


class Calibrations:
    """Calibrations by temperature: of all ranks by spread; of the first rank, also with the draft model's own q.

    q is the softmax at the temperature, without the noise.
    """

    def __init__(self) -> None:
        self.ranks = {(t, spread): RankCalibration(WIDTH) for t in TEMPERATURES for spread in SPREADS}
        self.first = {(t, name): RankCalibration(1) for t in TEMPERATURES for name in ("q", "noisy")}

    def add(self, model: measure.DraftModel, sample: Sample) -> None:
        """Count every position of a text."""
        params, first = sample.params, len(sample.prompt)
        for n, logits in enumerate(model.logits(sample)):
            token = sample.text[n]
            for spread in SPREADS:
                candidates = ranked(logits, params, first + n, WIDTH, spread)
                self.ranks[params.temperature, spread].add(candidates, token)
                if spread == SPREAD:
                    self.first[params.temperature, "noisy"].add(candidates, token)
            drawn, q = draw_sure(logits, params, first + n)
            self.first[params.temperature, "q"].add([Candidate(drawn, log(q))], token)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the three tables, by name."""
        return {
            "ranks": [
                {"temperature": t, **row} for t in TEMPERATURES for row in self.ranks[t, SPREAD].rows()
            ],
            "first": [
                {"temperature": t, "estimate": name, **one.rows()[0], "log_loss": one.log_loss}
                for (t, name), one in self.first.items()
            ],
            "losses": [
                {"temperature": t, "spread": spread, "log_loss": one.log_loss}
                for (t, spread), one in self.ranks.items()
            ],
        }


def time_levels(draft: Path, repeats: int) -> list[dict[str, Any]]:
    """Durations of a level and of a decode of as many sessions' chains, relative to one session's single token."""
    from services.draft_worker.llama_drafter import Limits, LlamaDrafter
    from services.draft_worker.llama_tree import LlamaTreeDrafter
    from services.draft_worker.tree_book import TreeLimits

    chains, trees = LlamaDrafter(draft, Limits(max(LEVELS), 4096)), LlamaTreeDrafter(draft, TreeLimits())
    chain_timer = DecodeTimer(chains, max(LEVELS), CONTEXT, TIMED_TEMPERATURE)
    level_timer = LevelTimer(trees, CONTEXT, max(LEVELS), TIMED_TEMPERATURE)

    def milliseconds(arm: tuple[str, int]) -> float:
        kind, width = arm
        if kind == "level":
            return 1e3 * level_timer.level_s(width)
        return chain_timer.decode_ms([width], CHAIN, 1, lambda _: None)[width]

    arms = [(kind, width) for kind in ("chains", "level") for width in LEVELS]
    ms = {arm: median(found) for arm, found in measure_arms(arms, repeats, milliseconds).items()}
    chains.close()
    trees.close()
    single = ms["chains", 1]
    return [
        {"nodes": width, "level": ms["level", width] / single, "chains": ms["chains", width] / single}
        for width in LEVELS
    ]


def main(
    model: str = "smollm2", tokens: int = 128, repeats: int = 20, out: Path = STATE / "draft-trees.json"
) -> None:
    """Draft trees: candidates' probabilities and the cost of a level. tokens: maximum length of each text."""
    require_llama()
    folder, draft, _ = resolve(model)
    with Steps(Console()) as steps:
        step = steps.step("texts of the target", len(TEMPERATURES) * len(measure.PROMPTS))
        samples = measure.samples(folder, tokens, TEMPERATURES, "float32", tick=step.advance)
    found = Calibrations()
    with measure.DraftModel(draft) as drafting:
        for sample in samples:
            found.add(drafting, sample)
    costs, tables = time_levels(draft, repeats), found.tables()
    config = {"model": model, "tokens": tokens, "repeats": repeats, "spread": SPREAD, "context": CONTEXT}
    positions = {str(t): len(found.ranks[t, SPREAD].hits) for t in TEMPERATURES}
    write_measurement(out, "draft-trees", config, {"positions": positions, **tables, "costs": costs})
    console = Console()
    console.print(table(tables["ranks"], RANKS, f"candidates of {model}, spread {SPREAD}"))
    console.print(table(tables["first"], FIRST, "the first candidate"))
    console.print(table(tables["losses"], LOSSES, "log loss by spread, nats"))
    console.print(table(costs, COSTS, "cost relative to a decode of one token"))


if __name__ == "__main__":
    bench_main(main)
