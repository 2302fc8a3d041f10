"""A modelled pipeline without time: rank 0's target and its stages' layers, called one after the other."""

from collections.abc import Sequence
from typing import Final

from services.verifier.stages.messages import Piece
from services.verifier.stages.pipelined_target import Launched, PipelinedTarget
from shared.compute.target import Choices, TargetRow
from shared.planning.pieces import StageLaw
from shared.speculative.params import SamplingParams
from simulator.stages.modelled_block import ModelledBlock
from simulator.stages.modelled_outer_layers import ModelledOuterLayers

VOCAB: Final = 1000
PAGE: Final = 4


def sampling(seed: int) -> SamplingParams:
    """Of a session with this seed."""
    return SamplingParams(seed=seed, vocab=VOCAB)


class Layers:
    """target: rank 0's; blocks: of the stages."""

    def __init__(self, stages: int = 3, kv_tokens: int = 256) -> None:
        self.target = PipelinedTarget(
            ModelledOuterLayers(VOCAB, StageLaw(5.0, 0.5)),
            positions=kv_tokens,
            vocabulary="modelled",
            vocab=VOCAB,
            kv_tokens=kv_tokens,
            page_tokens=PAGE,
            device="cpu",
        )
        self.blocks = [ModelledBlock(1, PAGE, first=stage == 0) for stage in range(stages)]

    def compute(self, piece: Piece) -> bytes:
        """A piece through all stages."""
        hidden = piece.hidden
        for block in self.blocks:
            sent = Piece(piece.number, piece.sources, piece.targets, piece.rows, hidden)
            hidden = block.run(sent)
        return hidden

    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """One pass."""
        found: dict[str, Choices] = {}
        for launched, piece in self.target.launch(rows):
            found.update(self.target.finish(launched, self.compute(piece)))
        return [found[row.session] for row in rows]

    def finish(self, launched: Launched, piece: Piece) -> dict[str, Choices]:
        """Compute a piece that was launched before."""
        return self.target.finish(launched, self.compute(piece))
