"""Texts of a real stack equal those of the target alone: a sample of `make exactness`, with kills of all roles."""

import random
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pytest

from cli.stack.stack import LocalStack
from tests.exactness.cells import Cell, sample
from tests.exactness.runner import CASES, options_of, run_cell

place = attrgetter("stack")
pytestmark = [pytest.mark.model, pytest.mark.slow]


BY_STACK = {key: list(cells) for key, cells in groupby(sorted(sample(), key=place), key=place)}


@pytest.mark.parametrize("cells", BY_STACK.values(), ids=map(str, BY_STACK))
async def test_text_is_the_targets_own(models_dir: Path, tmp_path: Path, cells: list[Cell]) -> None:
    async with LocalStack(options_of(cells[0], models_dir, tmp_path)) as stack:
        for number, cell in enumerate(cells):
            outcome = await run_cell(stack, cell, some_cases(cell, number))
            assert outcome.different == [], cell
            assert outcome.kills == cell.all_kills, cell


def some_cases(cell: Cell, number: int) -> list[dict[str, object]]:
    """Few cases for one user, more where eight run at once. Every second cell has those of the one before it:
    so what sessions leave behind, on the verifier and on the devices, is met again.
    """
    cases: list[dict[str, object]] = random.Random(number // 2).sample(CASES, 12)
    return cases[:4] if cell.users == 1 else cases
