"""One-shot trees that were tuned beforehand: simulator/pipeline/tuned.json, by `python -m cli.bench.pipeline.tune`.

Cells that are not in the file are searched when they are needed, with the same result, in some seconds.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from shared.planning.pieces import PipelineLaw
from simulator.pipeline.laws import LAWS
from simulator.pipeline.methods.one_shot import OneShot
from simulator.pipeline.tuning import best_one_shot

FILE: Final = Path(__file__).with_name("tuned.json")
Key = tuple[PipelineLaw, float, int, str]


@cache
def read_tuned(path: Path = FILE) -> Mapping[Key, OneShot]:
    """Settings by (law, p1, users, method). Raises OSError, ValueError."""
    found: dict[Key, OneShot] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        law = LAWS[cell["law"]](cell["stages"], cell["hop_ms"])
        for method in ("b", "c_star"):
            found[law, cell["p1"], cell["users"], method] = OneShot(*cell[method])
    return found


def best_tree(law: PipelineLaw, p1: float, users: int) -> OneShot:
    """The best tree verified once."""
    return read_tuned().get((law, p1, users, "c_star")) or best_one_shot(law, p1, users)


def best_chain(law: PipelineLaw, p1: float, users: int) -> OneShot:
    """The best chain verified once."""
    return read_tuned().get((law, p1, users, "b")) or best_one_shot(law, p1, users, chain=True)


def as_cell(name: str, law: PipelineLaw, p1: float, users: int) -> dict[str, Any]:
    """Search the settings of a cell, as the file has them. name: the law's."""
    place = {"law": name, "stages": len(law.stages), "hop_ms": law.hop_ms, "p1": p1, "users": users}
    both = {"b": best_one_shot(law, p1, users, chain=True), "c_star": best_one_shot(law, p1, users)}
    return place | {
        method: [one.rows, one.levels, one.width, one.pieces, one.groups] for method, one in both.items()
    }
