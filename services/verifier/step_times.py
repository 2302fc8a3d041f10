"""When the parts of one step began and ended, and what is derived from it: verdict stamps and timeline spans."""

from dataclasses import dataclass
from typing import Literal

from shared.protocol.changes import changed
from shared.protocol.messages import Span, StagedBatch, Verdict


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of the loop's clock: batch read, preparation begun, forward pass started and ended."""

    read_at: float
    begun: float
    started: float
    ended: float

    def stamp(self, verdict: Verdict, batch: int, fused: int) -> Verdict:
        """The verdict with its batch, the time it waited for the pass, and the time of the pass if it has tokens.

        fused: tokens of the pass that the verifier drafted itself.
        """
        queue_us, verify_us = _us(self.started - self.read_at), _us(self.ended - self.started)
        return changed(
            verdict,
            batch=batch,
            queue_us=queue_us,
            verify_us=verify_us if verdict.tokens else 0,
            pass_fused=fused,
        )

    def spans(self, name: str, batch: StagedBatch, idle_since: float) -> list[Span]:
        """One idle span up to the forward pass, and one verify span per row (OUTRIDER_TRACE=1)."""

        def span(kind: Literal["idle", "verify"], session: str, epoch: int, round_: int) -> Span:
            start, end = (idle_since, self.started) if kind == "idle" else (self.started, self.ended)
            return Span(
                role="verifier",
                name=name,
                session=session,
                epoch=epoch,
                round=round_,
                kind=kind,
                start_us=_us(start),
                end_us=_us(end),
                step=batch.batch,
                offset_us=0,
            )

        rows = [span("verify", row.session, row.epoch, row.round) for row in batch.rows]
        return [span("idle", "", 0, 0), *rows]


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
