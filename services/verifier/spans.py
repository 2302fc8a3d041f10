"""Timeline spans of one verifier step (OUTRIDER_TRACE=1)."""

from typing import Literal

from shared.protocol.messages import Span, StagedBatch


def spans(name: str, batch: StagedBatch, idle_since: float, started: float, ended: float) -> list[Span]:
    """One idle span up to the forward pass, and one verify span per row. Times are loop-clock seconds."""

    def span(kind: Literal["idle", "verify"], session: str, epoch: int, round_: int) -> Span:
        start, end = (idle_since, started) if kind == "idle" else (started, ended)
        return Span(
            role="verifier",
            name=name,
            session=session,
            epoch=epoch,
            round=round_,
            kind=kind,
            start_us=round(start * 1e6),
            end_us=round(end * 1e6),
            step=batch.batch,
            offset_us=0,
        )

    rows = [span("verify", row.session, row.epoch, row.round) for row in batch.rows]
    return [span("idle", "", 0, 0), *rows]
