"""Ranks that do not fit together are named, with the fix."""

from typing import Any

import pytest

from services.verifier.stages.agreement import SAME, disagreement
from tests.services.verifier.stages.rings import facts

DIFFERENT: dict[str, tuple[Any, str]] = {
    "release": ("2", "same version"),
    "libraries": ("torch 9", "same versions"),
    "model": ("another", "OUTRIDER_MODEL_DIR"),
    "dtype": ("bfloat16", "OUTRIDER_DTYPE"),
    "kv_tokens": (1024, "OUTRIDER_KV_TOKENS"),
    "page_tokens": (8, "OUTRIDER_PAGE_TOKENS"),
}


def test_ranks_that_are_alike_agree() -> None:
    assert disagreement([facts(0), facts(1, device="cuda", layer_ms=7.0), facts(2)]) == ""


@pytest.mark.parametrize("field", SAME)
def test_a_difference_names_the_rank_both_values_and_the_fix(field: str) -> None:
    value, fix = DIFFERENT[field]
    line = disagreement([facts(0), facts(1), facts(2, **{field: value})])
    assert line.startswith("rank 2 differs from rank 0 in its ")
    assert str(value) in line
    assert str(getattr(facts(0), field)) in line
    assert fix in line
    assert "\n" not in line


def test_a_rank_in_another_place() -> None:
    assert "rank 2 answered in the place of rank 1" in disagreement([facts(0), facts(2), facts(1)])
