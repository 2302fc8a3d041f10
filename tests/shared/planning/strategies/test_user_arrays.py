"""Users for the planners, from session views."""

import numpy as np
import pytest

from shared.planning.strategies.posteriors import MAX_ALPHA
from shared.planning.strategies.user_arrays import NEVER_MS, users_of
from tests.shared.planning.session_views import user_arrays, view


def test_a_user_has_the_estimates_of_its_session() -> None:
    user = users_of([view(1)])[0]
    assert (user.id, user.alpha, user.prefix) == (
        "s1",
        pytest.approx(0.78),
        200 + 50 // 2,
    )  # half-way to its end
    assert (user.draft_ms, user.comm_ms) == (pytest.approx(12.0), pytest.approx(4.0))


def test_extreme_estimates_are_bounded() -> None:
    assert users_of([view(1, alpha=1.0)])[0].alpha == MAX_ALPHA
    assert users_of([view(1, draft_s_per_token=0.0)])[0].draft_ms > 0
    assert users_of([view(1, can_draft=False)])[0].draft_ms == NEVER_MS


def test_user_arrays_have_draft_limits_and_times() -> None:
    two = user_arrays([view(1), view(2, can_draft=False, spread_s=9.0)])
    assert two.max_lengths.tolist() == [16, 0]
    assert two.away_ms(np.array([3, 0])).tolist() == pytest.approx([40.0, 0.0])
    assert two.spread_ms.tolist() == pytest.approx([0.0, 4.0])  # never more than the link itself
    assert two.emitted(np.array([0, 2])).tolist() == pytest.approx([1.0, 1 + 0.78 + 0.78**2])
