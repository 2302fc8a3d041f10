"""Siblings are added while they bring more tokens than the time they cost would."""

import pytest

from shared.planning.siblings import MARGIN, siblings_worth


def rate(
    k: int, alpha: float, second: float, count: int, row_ms: float, round_ms: float, users: int
) -> float:
    """Tokens per ms of all users, of whom one has so many siblings; worked out depth by depth."""
    shares = [second, (1 - second) * second]
    gains = sorted((alpha**d * (1 - alpha) * share for d in range(k) for share in shares), reverse=True)
    chain = sum(alpha**depth for depth in range(k + 1))
    return (users * chain + sum(gains[:count])) / (round_ms + count * row_ms)


@pytest.mark.parametrize("alpha", [0.3, 0.75, 0.95])
@pytest.mark.parametrize("users", [1, 4, 16])
@pytest.mark.parametrize("row_ms", [0.04, 1.0, 6.0])
def test_the_last_sibling_pays_and_the_next_would_not(alpha: float, users: int, row_ms: float) -> None:
    k, second, round_ms = 5, 0.5, 100.0
    count = siblings_worth(k, alpha, second, row_ms, round_ms, users)
    if count:
        before, after = (rate(k, alpha, second, n, row_ms, round_ms, users) for n in (count - 1, count))
        assert after > before
    if count < 2 * k:  # with the margin taken off the gain
        costly = MARGIN * 1.001 * row_ms
        before, after = (rate(k, alpha, second, n, costly, round_ms, users) for n in (count, count + 1))
        assert after < before * 1.01


def test_cheap_rows_and_a_lone_user_get_trees_and_dear_rows_or_many_users_chains() -> None:
    assert siblings_worth(4, 0.75, 0.5, 0.04, 22.0, 1) == 8  # as on a GPU
    assert siblings_worth(4, 0.75, 0.5, 6.0, 60.0, 1) < 2
    assert siblings_worth(4, 0.75, 0.5, 3.0, 480.0, 16) == 0
    assert siblings_worth(0, 0.75, 0.5, 0.1, 10.0, 1) == 0
    assert siblings_worth(4, 1.0, 0.5, 0.0, 10.0, 1) == 8  # free rows, though they bring nothing
