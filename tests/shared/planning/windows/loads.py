"""Sessions and loads for tests of window controllers."""

from shared.planning.cost import Packed
from shared.planning.views import SessionView
from shared.planning.windows.window import Load


def view(session: str = "a", alpha: float = 0.8, draft_ms: float = 5.0, link_ms: float = 4.0) -> SessionView:
    return SessionView(
        session, 0, "ready", 0.0, 100, 100, 0, True, "d:1", alpha, draft_ms / 1e3, link_ms / 1e3
    )


def load(*sessions: SessionView, per_token_ms: float = 1.0, step: int = 1) -> Load:
    return Load("v", step, Packed(30.0, per_token_ms, 0.0), len(sessions), 100.0, sessions, 0.0)
