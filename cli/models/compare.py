"""Compares quantisations of a target's own file as drafts, by accepted tokens per millisecond."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.table import Table

from cli.command.errors import ModelError
from cli.command.report import Report
from cli.command.sizes import human_size
from cli.models import measure, requantize, store
from cli.models.llama_guard import require_llama
from cli.models.manifest import DraftRecipe
from cli.models.store import Folder
from loadgen.measuring.arms import measure_arms
from loadgen.measuring.progress import Steps
from loadgen.measuring.table import table as result_table

TEMPERATURES: Final = (0.0, 1.0)
CONTEXT: Final = 128  # tokens in each sequence's cache while a decode is timed
STEPS: Final = 24
SEQUENCES: Final = 4
K: Final = 4  # of the last column
AS_IS: Final = "as downloaded"
CANDIDATES: Final = (
    DraftRecipe("source.gguf", "Q2_K"),
    DraftRecipe("source.gguf", "Q3_K_S"),
    DraftRecipe("source.gguf", "Q3_K_M"),
    DraftRecipe("source.gguf", "Q3_K_M", embeddings="IQ4_NL"),
    DraftRecipe("source.gguf", "Q3_K_M", embeddings="Q4_0"),
    DraftRecipe("source.gguf", "Q4_0"),
    DraftRecipe("source.gguf", "Q4_0", pure=True),
    DraftRecipe("source.gguf", "IQ4_NL"),
    DraftRecipe("source.gguf", "IQ4_NL", pure=True),
    DraftRecipe("source.gguf", "IQ4_NL", embeddings="Q5_0"),
    DraftRecipe("source.gguf", "Q4_1", embeddings="Q4_0"),
    DraftRecipe("source.gguf", "Q4_K_S"),
    DraftRecipe("source.gguf", "Q4_K_S", embeddings="IQ4_NL"),
    DraftRecipe("source.gguf", "Q5_0", embeddings="IQ4_NL"),
    DraftRecipe("source.gguf", "Q5_0", pure=True),
)


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One candidate: bytes, α by temperature, milliseconds of a decode of 1 and of SEQUENCES tokens."""

    name: str
    size: int
    alphas: tuple[float, ...]
    ms_alone: float
    ms_several: float

    def accepted_per_ms(self) -> float:
        """Expected accepted tokens of a draft of K, over what drafting it costs with SEQUENCES sessions."""
        alpha = statistics.fmean(self.alphas)
        return sum(alpha**depth for depth in range(1, K + 1)) / (K * self.ms_several / SEQUENCES)


def compare(folder: Folder, tokens: int, repeats: int, report: Report) -> list[CandidateRow]:
    """Measure every candidate on this machine, one thread, timings interleaved. Raises ModelError."""
    require_llama()
    if not folder.source.is_file():
        raise ModelError(f"{folder.source}: missing; only a model with a source file can be requantised")
    texts = len(TEMPERATURES) * len(measure.PROMPTS)
    with (
        Steps(report.console) as steps,
        TemporaryDirectory(dir=store.models_root(), prefix=f".{folder.name}.") as work,
    ):
        step = steps.step(f"texts of the target alone, {tokens} tokens each", texts)
        samples = measure.samples(folder.target, tokens, TEMPERATURES, tick=step.advance)
        step = steps.step("drafts and their agreement", len(CANDIDATES) + 1)
        files = {AS_IS: folder.source}
        for number, recipe in enumerate(CANDIDATES):
            files[title(recipe)] = Path(work) / f"{number}.gguf"
            requantize.requantize(folder.source, files[title(recipe)], recipe)
        alphas = {}
        for name, path in files.items():
            alphas[name] = agreement(path, samples)
            step.advance(name)
        step = steps.step("timings", repeats * len(files))

        def timed(name: str) -> tuple[float, float]:
            ms = timing(files[name])
            step.advance(name)
            return ms

        timings = measure_arms(list(files), repeats, timed)
        rows = [
            CandidateRow(
                name,
                path.stat().st_size,
                alphas[name],
                *(statistics.median(t) for t in zip(*timings[name], strict=True)),
            )
            for name, path in files.items()
        ]
    return sorted(rows, key=CandidateRow.accepted_per_ms, reverse=True)


def agreement(path: Path, samples: list[measure.Sample]) -> tuple[float, ...]:
    """α of a draft, one value per temperature: the share of the target's own tokens that it would have drafted."""
    with measure.DraftModel(path) as draft:
        agreements = [(sample.params.temperature, draft.agreement(sample)) for sample in samples]
    return tuple(
        statistics.fmean(hit for at, hits in agreements if at == temperature for hit in hits)
        for temperature in TEMPERATURES
    )


def timing(path: Path) -> tuple[float, float]:
    """Milliseconds of a decode for one session and for SEQUENCES."""
    with measure.DraftModel(path, SEQUENCES) as draft:
        return draft.ms_per_decode(1, CONTEXT, STEPS), draft.ms_per_decode(SEQUENCES, CONTEXT, STEPS)


def title(recipe: DraftRecipe) -> str:
    """A candidate's name."""
    return (
        recipe.type
        + (" pure" if recipe.pure else "")
        + (f", embeddings {recipe.embeddings}" if recipe.embeddings else "")
    )


def table(rows: list[CandidateRow]) -> Table:
    """The candidates, best first."""
    columns = {
        "draft": "{row.name}",
        "size": "{size}",
        **{f"α T={at}": f"{{row.alphas[{number}]:.3f}}" for number, at in enumerate(TEMPERATURES)},
        "ms, 1 session": "{row.ms_alone:.2f}",
        f"ms, {SEQUENCES} sessions": "{row.ms_several:.1f}",
        "accepted/ms": "{speed:.3f}",
    }
    return result_table(
        ({"row": row, "size": human_size(row.size), "speed": row.accepted_per_ms()} for row in rows), columns
    )


def main() -> None:
    """`python -m cli.models.compare`: the demo model's candidates."""
    report = Report()
    report.console.print(table(compare(store.folder("smollm2"), tokens=96, repeats=5, report=report)))


if __name__ == "__main__":
    main()
