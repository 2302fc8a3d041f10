"""What a piece costs and how many rows it should have, by the ranks' own measurements. Pure."""

from collections.abc import Sequence

from services.verifier.stages.messages import Facts
from shared.planning import pieces
from shared.planning.pieces import StageLaw


def stage_law(layers: Sequence[int], facts: Sequence[Facts]) -> StageLaw:
    """The law of the slowest stage. layers: of each stage. facts: of all ranks, rank 0's first."""
    laws = [
        StageLaw(count * one.layer_ms, count * one.token_ms)
        for count, one in zip(layers, facts[1:], strict=True)
    ]
    return max(laws, key=lambda law: law.pass_ms(pieces.piece_size(law)))


def pieces_in_flight(layers: Sequence[int], facts: Sequence[Facts]) -> int:
    """Pieces that keep the slowest stage busy: the time of all stages over its own. Arguments as in `stage_law`."""
    slowest = stage_law(layers, facts)
    rows = pieces.piece_size(slowest)
    passes = [
        StageLaw(count * one.layer_ms, count * one.token_ms).pass_ms(rows)
        for count, one in zip(layers, facts[1:], strict=True)
    ]
    return max(1, round(sum(passes) / slowest.pass_ms(rows)))


def rows_worth_sending(law: StageLaw, probabilities: Sequence[float], users: int) -> int:
    """Rows of a piece, the likeliest first."""
    return pieces.rows_worth_sending(probabilities, law, users)
