"""What a device adds to a timeline: how long a verdict waited here, and when its draft was computed. Pure."""

from services.draft_worker.compute_loop import Finished
from shared.protocol.messages import Draft, Span


def spans_of(name: str, draft: Draft, finished: Finished) -> list[Span]:
    """The spans of one draft, on this host's monotonic clock (offset 0)."""
    started = round(finished.started * 1e6)
    arrived = max(started - finished.wait_us, 0)
    ended = round(finished.ended * 1e6)
    who = ("draft_worker", name, draft.session, draft.epoch, draft.round)
    return [Span(*who, "wait", arrived, started, 0, 0), Span(*who, "draft", started, ended, 0, 0)]
