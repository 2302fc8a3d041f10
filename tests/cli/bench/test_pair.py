"""Figures of the real pair."""

import pytest

from cli.bench.pair import ENTRANTS, PairRun, figures


def test_rates_are_medians_and_texts_are_compared_with_plain_generation() -> None:
    runs = {entrant: [PairRun(8, 2.0, [[1, 2, 3, 4]] * entrant.users)] * 3 for entrant in ENTRANTS}
    fast = ENTRANTS[-1]
    runs[fast] = [PairRun(8, seconds, [[1, 2, 3, 5]] * fast.users, tau=2.5) for seconds in (1.0, 2.0, 8.0)]
    rows = figures(runs)
    assert [row["tokens_per_s"] for row in rows] == [4.0] * len(ENTRANTS)
    assert rows[-1]["range"] == [1.0, 4.0, 8.0]
    assert rows[-1]["tau"] == 2.5
    assert rows[-1]["texts_as_generate"] == pytest.approx(0.75)
    assert rows[0]["texts_as_generate"] == 1.0
