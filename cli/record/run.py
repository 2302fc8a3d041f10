"""Records a pair of models: the target's texts, and the draft model along them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from cli.calibrate.hardware import versions
from cli.command.errors import CommandError
from cli.models import measure, store
from cli.models.llama_guard import require_llama
from cli.models.resolve import resolve
from loadgen.measuring.progress import Steps
from loadgen.measuring.table import table
from loadgen.results.result_file import hardware
from shared.compute.acceptance_record import AcceptanceRecord, write_record

CONTEXT: Final = 128  # tokens in the cache while decodes are timed
DECODES: Final = 24


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Options of `outrider record`. temperatures: numbers, separated by commas."""

    target: str
    draft: str
    dtype: str
    tokens: int
    temperatures: str
    out: Path


def run_record(options: RecordOptions) -> None:
    """Record and write the file. Raises CommandError."""
    temperatures = _temperatures(options.temperatures)
    require_llama()
    folder, draft, name = resolve(options.target, options.draft)
    console = Console(highlight=False, soft_wrap=True)
    texts = len(temperatures) * len(measure.PROMPTS)
    with Steps(console) as steps:
        step = steps.step(f"texts of the target alone, {options.tokens} tokens each", texts)
        samples = measure.samples(folder, options.tokens, temperatures, options.dtype, tick=step.advance)
        step = steps.step("the draft model along them", texts)
        with measure.DraftModel(draft) as model:
            recorded = []
            for sample in samples:
                recorded.append(model.record(sample))
                step.advance()
            draft_ms = model.ms_per_decode(1, CONTEXT, DECODES)
    record = AcceptanceRecord(_header(options, name, draft, draft_ms), tuple(recorded))
    write_record(options.out, record)
    _print(console, record)
    console.print(f"written to {options.out}")


def _header(options: RecordOptions, name: str, draft: Path, draft_ms: float) -> dict[str, Any]:
    """Models, versions and hardware."""
    return {
        "kind": "acceptance",
        "model": name,
        "draft": draft.name,
        "draft_sha256": store.sha256(draft),
        "dtype": options.dtype,
        "tokens": options.tokens,
        "draft_ms_per_token": round(draft_ms, 3),
        "versions": versions(),
        "hardware": hardware(),
    }


def _temperatures(text: str) -> list[float]:
    try:
        found = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or not all(0 <= one <= 2 for one in found):
        raise CommandError(f"--temperatures {text!r}: numbers from 0 to 2, separated by commas")
    return found


def _print(console: Console, record: AcceptanceRecord) -> None:
    """Hits by temperature, and how well the confidence foretells them."""
    rows = []
    for temperature in sorted({text.temperature for text in record.texts}):
        texts = record.at(temperature).texts
        pairs = [pair for text in texts for pair in zip(text.hits, text.confidence, strict=True)]
        misses = [text.seconds[n] for text in texts for n, hit in enumerate(text.hits) if not hit]
        sure, unsure = ([hit for hit, byte in pairs if (byte >= 128) == side] for side in (True, False))
        rows.append(
            {
                "at": temperature,
                "texts": len(texts),
                "positions": len(pairs),
                "hits": sum(hit for hit, _ in pairs) / len(pairs),
                "seconds": sum(misses) / max(1, len(misses)),
                "sure": sum(sure) / max(1, len(sure)),
                "unsure": sum(unsure) / max(1, len(unsure)),
            }
        )
    columns = {
        "temperature": "{at:g}",
        "texts": "{texts}",
        "positions": "{positions}",
        "hits": "{hits:.3f}",
        "second choice right, of misses": "{seconds:.3f}",
        "hits, confidence ≥ ½": "{sure:.3f}",
        "below": "{unsure:.3f}",
    }
    console.print(table(rows, columns))
