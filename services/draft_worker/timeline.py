"""What a device adds to a timeline: how long a verdict waited here, and when its draft was computed. Pure."""

from typing import Final

from services.draft_worker.compute_loop import Finished
from shared.protocol.messages import Draft, Span

ROLE: Final = "draft_worker"


def spans_of(name: str, draft: Draft, finished: Finished) -> list[Span]:
    """The spans of one draft, on this host's monotonic clock."""
    started = round(finished.started * 1e6)
    arrived = max(started - finished.wait_us, 0)
    ended = round(finished.ended * 1e6)
    return [
        Span(ROLE, name, draft.session, draft.epoch, draft.round, "wait", arrived, started, 0, 0),
        Span(ROLE, name, draft.session, draft.epoch, draft.round, "draft", started, ended, 0, 0),
    ]
