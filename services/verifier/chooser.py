"""What rows choose: the output head and the draw, on hidden rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from services.verifier.head import Head
from services.verifier.packing import Packing, choice_positions
from shared.compute.target import Choices, TargetRow
from shared.speculative.torch_rule import draw_rows


class Chooser:
    """vocab: real tokens. at: the device of head and logits."""

    def __init__(self, head: Head, vocab: int, at: torch.device) -> None:
        self._head = head
        self.vocab = vocab
        self._at = at

    def answers(self, packing: Packing, hidden: Tensor, rows: Sequence[TargetRow]) -> list[Choices]:
        """What each row chooses, in the order of the rows. hidden: of the packed sequence, after the last norm."""
        answers = [Choices(())] * len(rows)
        if packing.choosers:
            logits = self._head.logits(
                hidden[torch.from_numpy(packing.chosen).to(self._at, non_blocking=True)]
            )
            for placed, choices in zip(packing.choosers, self._choose(packing, logits), strict=True):
                answers[placed.index] = choices
        return answers

    def _choose(self, packing: Packing, logits: Tensor) -> list[Choices]:
        """The target's own tokens for each choosing row. logits: [n, vocabulary rows]"""
        rows = [placed.row for placed in packing.choosers]
        counts = [row.choices for row in rows]
        tokens = draw_rows(
            logits,
            [row.sampling for row, count in zip(rows, counts, strict=True) for _ in range(count)],
            [position for row in rows for position in choice_positions(row)],
        )
        choices, begin = [], 0
        for row, count in zip(rows, counts, strict=True):
            own = tuple(tokens[begin : begin + count])
            token_logprobs = logprobs(logits[begin : begin + count, : self.vocab], own, row.logprobs)
            choices.append(Choices(own, token_logprobs))
            begin += count
        return choices


def logprobs(
    logits: Tensor, tokens: Sequence[int], likeliest: int
) -> tuple[tuple[float, tuple[int, ...], tuple[float, ...]], ...]:
    """Per token: its log-probability, and the likeliest ids with theirs. logits: [n, V]; -1 = no logprobs."""
    if likeliest < 0:
        return ()
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    own = log_probs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    top = log_probs.topk(min(likeliest, logits.shape[1]), dim=-1)
    return tuple(
        (value, tuple(ids), tuple(values))
        for value, ids, values in zip(own, top.indices.tolist(), top.values.tolist(), strict=True)
    )
