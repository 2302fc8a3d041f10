"""Lookup drafts: the longest earlier occurrence of the end, and what followed it."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculative.lookup import MAX_MATCH, MIN_MATCH, continuation


@pytest.mark.parametrize(
    ("ids", "k", "draft"),
    [
        ((1, 2, 3, 4, 5, 1, 2, 3), 2, (4, 5)),
        ((7, 8, 9, 7, 8, 9, 7, 8, 9), 4, (7, 8, 9, 7)),  # goes on with its period
        ((9, 1, 2, 3, 4, 8, 1, 2, 3, 5, 9, 1, 2, 3), 1, (4,)),  # the longest: 9 1 2 3
        ((1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3), 1, (5,)),  # of one length the latest
        ((1, 2, 9, 1, 2), 1, ()),  # too short
        ((1, 2, 3), 4, ()),
        ((1,), 4, ()),
        ((5, 5, 5, 5), 3, (5, 5, 5)),
        ((1, 2, 3, 4, 1, 2, 3), 0, ()),
    ],
)
def test_worked_examples(ids: tuple[int, ...], k: int, draft: tuple[int, ...]) -> None:
    assert continuation(np.array(ids), k) == draft


def by_trying(ids: Sequence[int], k: int) -> tuple[int, ...]:
    """The same by trying every place and length."""
    best, after = 0, 0
    for end in range(len(ids) - 1):
        length = 0
        while length <= end and length < MAX_MATCH and ids[end - length] == ids[-1 - length]:
            length += 1
        if length >= max(best, MIN_MATCH):
            best, after = length, end + 1
    period = ids[after:]
    return tuple(period[i % len(period)] for i in range(k)) if best else ()


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(0, 8))
def test_it_is_the_longest_occurrence_and_of_those_the_latest(ids: list[int], k: int) -> None:
    assert continuation(np.array(ids), k) == by_trying(ids, k)
