"""Texts of a real stack equal those of the target alone: a sample of `make exactness`, with kills of all roles."""

import random
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path

import pytest

from cli.stack.stack import LocalStack
from tests.exactness.cells import Cell, sample
from tests.exactness.runner import CASES, options, run_cell

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(params=[True, False], ids=["sharing", "no-sharing"])
async def stack(
    request: pytest.FixtureRequest, models_dir: Path, tmp_path: Path
) -> AsyncIterator[LocalStack]:
    async with LocalStack(options(models_dir, request.param, tmp_path)) as running:
        yield running


async def test_text_is_the_targets_own(stack: LocalStack) -> None:
    sharing = stack.options.env["OUTRIDER_PREFIX_SHARING"] == "true"
    cells = {key: list(group) for key, group in groupby(sample(), key=lambda cell: cell.sharing)}[sharing]
    for number, cell in enumerate(cells):
        outcome = await run_cell(stack, cell, some_cases(cell, number))
        assert outcome.different == [], cell
        assert outcome.kills == (2 if cell.killed else 0), cell


def some_cases(cell: Cell, number: int) -> list[dict[str, object]]:
    """Few cases for one user, more where eight run at once. Every second cell has those of the one before it:
    so what sessions leave behind, on the verifier and on the devices, is met again.
    """
    cases: list[dict[str, object]] = random.Random(number // 2).sample(CASES, 12)
    return cases[:4] if cell.users == 1 else cases
