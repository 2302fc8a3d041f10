"""Rank 0's part of a real model: the embedding before the layers, the norm, the head and the draw after them."""

from collections.abc import Sequence

import torch

from services.verifier.chooser import Chooser
from services.verifier.families import AttentionShape
from services.verifier.head import Head
from services.verifier.packing import Ids, Packing
from services.verifier.stages.block import from_bytes, to_bytes
from services.verifier.stages.parts import Front
from shared.compute.target import Choices, TargetRow


class TorchOuterLayers:
    """See OuterLayers."""

    def __init__(
        self,
        shape: AttentionShape,
        front: Front,
        *,
        vocab: int,
        dtype: torch.dtype,
        device: torch.device,
        hidden: int,
    ) -> None:
        """shape, hidden: of the whole model. vocab: real tokens. dtype: of the hidden rows."""
        self.rows = front.rows
        self._front = front
        self._chooser = Chooser(Head(front.head, shape.final_softcap), vocab, device)
        self._dtype, self._at, self._hidden = dtype, device, hidden

    @torch.inference_mode()
    def embed(self, ids: Ids) -> bytes:
        """Hidden rows of these tokens."""
        tokens = torch.from_numpy(ids).to(self._at, non_blocking=True)
        return to_bytes(self._front.embedding(tokens).to(self._dtype))

    @torch.inference_mode()
    def choose(self, packing: Packing, hidden: bytes, rows: Sequence[TargetRow]) -> list[Choices]:
        """What each row chooses. Raises PieceError."""
        states = from_bytes(hidden, self._hidden, self._dtype).to(self._at)
        return self._chooser.answers(packing, self._front.norm(states), rows)

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """0.0: the cost of a real model is its computing time."""
        return 0.0

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next call on."""
        torch.set_num_threads(threads)
