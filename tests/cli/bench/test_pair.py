"""Rows of the comparison with transformers."""

import pytest

from cli.bench.pair import ARMS, PairRun, rows


def test_rates_are_medians_and_texts_are_compared_with_plain_generation() -> None:
    runs = {arm: [PairRun(8, 2.0, [[1, 2, 3, 4]] * arm.users)] * 3 for arm in ARMS}
    fast = ARMS[-1]
    runs[fast] = [PairRun(8, seconds, [[1, 2, 3, 5]] * fast.users, tau=2.5) for seconds in (1.0, 2.0, 8.0)]
    table = rows(runs)
    assert [row["tokens_per_s"] for row in table] == [4.0] * len(ARMS)
    assert table[-1]["range"] == [1.0, 4.0, 8.0]
    assert table[-1]["tau"] == 2.5
    assert table[-1]["texts_as_generate"] == pytest.approx(0.75)
    assert table[0]["texts_as_generate"] == 1.0
