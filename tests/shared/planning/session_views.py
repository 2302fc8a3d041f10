"""Session views and user arrays for tests of planning."""

from dataclasses import replace

from shared.planning.cost import Packed
from shared.planning.problem import PackedServer
from shared.planning.strategies.user_arrays import UserArrays
from shared.planning.views import SessionView
from tests.shared.planning.policies.test_policies import session

SERVER = PackedServer(Packed(50.0, 1.2, 0.004))


def view(n: int, **changed: object) -> SessionView:
    """A session that can draft: α 0.78, 12 ms a token, link 4 ms, 200 tokens long."""
    plain = replace(
        session(f"s{n}", "ready", joined=n), alpha=0.78, draft_s_per_token=0.012, link_s=0.004, length=200
    )
    return replace(plain, **changed)  # type: ignore[arg-type]  # fields of a view


def user_arrays(views: list[SessionView], max_draft: int = 16) -> UserArrays:
    return UserArrays.of(views, max_draft)
