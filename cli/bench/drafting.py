"""Cost of drafting several sessions at once: `python -m cli.bench.drafting --model FILE [--threads N]`.

Milliseconds of a decode by width (sessions that draft together), and how long 8 sessions that request a draft of 4
tokens at the same time wait, on average and at most, when at most that many draft at once. 100 tokens of context each.
"""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from cli.command.bench_main import bench_main
from cli.command.errors import CommandError
from cli.models.llama_guard import require_llama
from loadgen.measuring.decodes import DecodeTimer
from loadgen.measuring.progress import Steps
from loadgen.measuring.table import table

SESSIONS: Final = 8
CONTEXT: Final = 100
K: Final = 4
WIDTHS: Final = (1, 2, 4, 8)
COLUMNS: Final = {
    "width": "{width}",
    "decode ms": "{ms:.1f}",
    "ms per token": "{each:.1f}",
    "mean wait ms": "{waits[0]:.0f}",
    "longest wait ms": "{waits[1]:.0f}",
}


def waits_ms(decode_ms: float, width: int) -> tuple[float, float]:
    """(mean, longest) wait of 8 sessions for a draft of 4, `width` at a time, first come first served."""
    waits = [(session // width + 1) * K * decode_ms for session in range(SESSIONS)]
    return sum(waits) / SESSIONS, max(waits)


def main(model: Annotated[Path, typer.Option(help="GGUF file")], threads: int = 1, repeats: int = 10) -> None:
    """Cost of drafting several sessions at once."""
    require_llama()
    from services.draft_worker.llama_drafter import Limits, LlamaDrafter
    from services.draft_worker.llama_model import ModelFileError

    try:
        drafter = LlamaDrafter(model, Limits(SESSIONS, 4096), threads)
    except ModelFileError as error:
        raise CommandError(str(error)) from None
    console = Console()
    with Steps(console) as steps:
        timer = DecodeTimer(drafter, SESSIONS, CONTEXT, temperature=0.7)
        step = steps.step("decodes", repeats * len(WIDTHS))
        decodes = timer.decode_ms(WIDTHS, K, repeats, step.advance)
    print(f"prefill {timer.prefill_ms:.2f} ms per token, {threads} threads")
    rows = (
        {"width": width, "ms": ms, "waits": waits_ms(ms, width), "each": ms / width}
        for width, ms in decodes.items()
    )
    console.print(table(rows, COLUMNS))
    drafter.close()


if __name__ == "__main__":
    bench_main(main)
