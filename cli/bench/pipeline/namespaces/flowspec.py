"""FlowSpec's own traffic, as `outrider bench pipeline` has it, for the rows of a real target."""

from dataclasses import replace
from typing import Any, Final

from simulator.pipeline.laws import LAWS, ROW_BYTES
from simulator.pipeline.methods.registry import METHODS
from simulator.pipeline.run import run_method

LAW: Final = "cpu"
METHOD_NAMES: Final = ("a", "c", "e", "f")
TOKENS: Final = 1000
TEXTS: Final = 3


def modelled_traffic(
    p1: float, stages: int, delay_ms: float, mbit: float, row_bytes: int, tokens: int = TOKENS
) -> list[dict[str, Any]]:
    """Rows on the links and bytes per token of one user, by method. p1: see docs/pipeline.md; tokens: of a text."""
    law = replace(LAWS[LAW](stages, delay_ms), wire_ms=row_bytes * 8 / (mbit * 1e3))
    found = []
    for name in METHOD_NAMES:
        method = METHODS[name].make(law, p1, 1)
        rows = size = messages = rate = 0.0
        for seed in range(1, TEXTS + 1):
            one = run_method(method, law, p1, 1, tokens, seed)
            total = one.timeline.messages / one.messages_per_token  # tokens, with those of the first tenth
            sent = sum(turn.rows for turn in one.timeline.passes if turn.stage)
            rows += sent / total / TEXTS
            size += (one.timeline.bytes + sent * (row_bytes - ROW_BYTES)) / total / TEXTS
            messages += one.messages_per_token / TEXTS
            rate += one.tokens_per_s / TEXTS
        found.append(
            {"method": name, "about": METHODS[name].about, "rows": rows, "bytes": size, "messages": messages}
            | {"tokens_per_s": rate}
        )
    return found
