"""The device's timeline spans: a verdict's wait, the computing of its draft, and the draft's sending."""

from typing import Final, Literal

from services.draft_worker.compute_loop import Finished
from shared.protocol.messages import Draft, Span

MAX_SPANS: Final = 4096  # spans kept between two writes; further ones are dropped


class Timeline:
    """Collects spans on this host's monotonic clock until they are written. With tracing off it stays empty."""

    def __init__(self, name: str, on: bool) -> None:
        self._name = name
        self._on = on
        self._spans: list[Span] = []

    def drafted(self, draft: Draft, finished: Finished) -> None:
        """Record a computed draft."""
        if not self._on:
            return
        arrived = finished.started - finished.wait_us / 1e6
        self._add(draft, "wait", arrived, finished.started)
        self._add(draft, "draft", finished.started, finished.ended)

    def sent(self, draft: Draft, since: float, now: float) -> None:
        """Record a draft that the broker has accepted. since: when it was ready to send; includes an emulated link."""
        self._add(draft, "link", since, now)

    def take(self) -> list[Span]:
        """Spans since the last call."""
        spans, self._spans = self._spans, []
        return spans

    def _add(self, draft: Draft, kind: Literal["wait", "draft", "link"], start: float, end: float) -> None:
        if self._on and len(self._spans) < MAX_SPANS:
            start_us, end_us = max(0, round(start * 1e6)), round(end * 1e6)
            self._spans.append(
                Span(
                    "draft_worker",
                    self._name,
                    draft.session,
                    draft.epoch,
                    draft.round,
                    kind,
                    start_us,
                    end_us,
                    0,
                    0,
                )
            )
