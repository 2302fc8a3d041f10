"""Predicted rates: prompts and batches in turn, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from shared.planning.problem import Prompts
from shared.planning.windows.rates import predicted_rates
from tests.shared.planning.windows.loads import load, view


def test_prompts_are_read_with_a_batch_or_in_a_pass_between() -> None:
    """A third of the verifier's time goes to prompts."""
    one = view(alpha=0.7, draft_ms=8.0, link_ms=30.0)
    quiet, busy = load(one), replace(load(one), prompts=Prompts(1 / 120, 40.0))
    rates = [predicted_rates(what) for what in (quiet, busy)]
    assert rates[1][0] == pytest.approx(rates[0][0] * 2 / 3, rel=0.01)

    away_ms, pass_ms = 30.0 + 3 * 8.0, 30.0 + 4
    round_ms = sum(0.7**i for i in range(4)) / rates[1][3]
    read = round_ms / 120
    late_ms = (1 - np.exp(-read)) * (30.0 + max(1.0, read) * 40.0 - away_ms / 2)
    assert round_ms == pytest.approx(away_ms + pass_ms + late_ms, rel=0.01)
    assert rates[0][3] == pytest.approx(sum(0.7**i for i in range(4)) / (away_ms + pass_ms))


def test_one_batch_drafts_while_another_is_verified() -> None:
    """Of four sessions two are verified at a time, so that a link of a pass's length costs nothing."""
    four = [view(name, link_ms=30.0) for name in "abcd"]
    together, in_turn = load(*four), replace(load(*four), rows=2.0)
    tokens = 4 * (1 + 0.8 + 0.64)
    assert predicted_rates(together)[2] == pytest.approx(tokens / (30 + 10 + 30 + 12))
    assert predicted_rates(in_turn)[2] == pytest.approx(tokens / (30 + 10 + 30 + 6))
    assert predicted_rates(in_turn)[0] == pytest.approx(4 / (2 * (30 + 2)))
