"""A target's pages, sessions and choices, wherever its layers run: what `TorchTarget` and `PipelinedTarget` share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from services.verifier.families import AttentionShape
from services.verifier.head import Head
from services.verifier.packing import Ids, Packing, Placed, choice_positions, run_of
from services.verifier.pool import PagePool
from shared.compute.target import Choices, TargetRow
from shared.speculative.torch_rule import draw_rows

# Unneeded cached positions read at most to save one attention call, measured for 135M on 2 cores (24 µs a
# call, 75 ns a position); a GPU's calls cost about as much and its reads a hundredth.
CALL_COST: Final = {"cpu": 300, "cuda": 30_000}


class PagedTarget(ABC):
    """Pool, placing of rows, and choices. A subclass runs the layers and moves KV."""

    def __init__(
        self,
        shape: AttentionShape,
        head: Head,
        *,
        rows: int,
        vocabulary: str,
        vocab: int,
        vocabulary_blocks: str,
        kv_tokens: int,
        page_tokens: int,
        prefix_sharing: bool,
        max_context: int | None,
        device: torch.device,
    ) -> None:
        """rows: of the embedding. vocab: real tokens. device: of the head, and of the logits."""
        self._shape = shape
        self._head = head
        self._rows = rows
        self.vocabulary = vocabulary
        self.vocabulary_blocks = vocabulary_blocks  # digests, for a device that differs
        self.vocab = vocab
        self.max_context = min(max_context or shape.positions, shape.positions)
        self.pool_tokens = kv_tokens // page_tokens * page_tokens
        self._page_tokens = page_tokens
        self.device = device.type
        self._at = device
        self._call_cost = CALL_COST[device.type]
        self._pool = PagePool(
            self.pool_tokens // page_tokens,
            page_tokens,
            sharing=prefix_sharing,
            contiguous=device.type == "cpu",
        )

    @abstractmethod
    def _move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy the KV of slots in every layer, before anything that runs later."""

    def cached(self, session: str) -> int:
        """Committed tokens whose KV is held; 0 for an unknown session."""
        return self._pool.length(session)

    @torch.inference_mode()
    def admit(self, session: str, prompt: Sequence[int], protect: Sequence[str], length: int) -> bool:
        """Reserve KV for `length` tokens of a session; False when there are no pages."""
        if length > self.max_context or not self._pool.admit(session, prompt, protect, length):
            return False
        if self._pool.copies:
            pages = torch.tensor(self._pool.copies).T[:, :, None] * self._page_tokens
            source, to = (pages + torch.arange(self._page_tokens)).flatten(1).tolist()
            self._move(source, to)
        return True

    @torch.inference_mode()
    def keep(
        self, session: str, length: int, path: Sequence[int] = (), open_nodes: Sequence[int] = ()
    ) -> None:
        """Roll back to the first `length` tokens, followed by the accepted draft nodes of `path`.

        open_nodes: nodes that stay behind them, undecided. Nodes are counted from `length` on.
        """
        kept = [*path, *open_nodes]
        moved = [(length + node, length + i) for i, node in enumerate(kept) if node != i]
        if moved:
            self._move(*([self._slot(session, at) for at in side] for side in zip(*moved, strict=True)))
        self._pool.keep(session, length + len(path), len(open_nodes))

    def forget(self, session: str) -> None:
        """Free all pages of a session. Unknown sessions are ignored."""
        self._pool.forget(session)

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """0.0: the cost of a real model is its computing time."""
        return 0.0

    def pages(self) -> tuple[int, int]:
        """KV pages (used, total)."""
        return self._pool.used, self._pool.pages

    def _place(self, index: int, row: TargetRow) -> Placed:
        """The row with its pages, once it is certain that it fits them."""
        table = self._pool.table(row.session)
        if not (0 if row.parents else 1) <= row.committed <= len(row.tokens) or (row.open and row.committed):
            raise ValueError(f"{row.session}: {row.committed} of {len(row.tokens)} tokens committed")
        if row.first + len(row.tokens) > len(table) * self._page_tokens:
            raise ValueError(f"{row.session}: row of {len(row.tokens)} tokens beyond its pages")
        if not all(0 <= token < self._rows for token in row.tokens):
            raise ValueError(f"{row.session}: token beyond the vocabulary of {self._rows}")
        return Placed(index, row, table, run_of(table, self._page_tokens))

    def _packed(self, rows: Sequence[TargetRow]) -> list[Placed]:
        """The rows with their pages. Raises ValueError when a row does not continue its session's cache."""
        for row in rows:
            if row.start != self._pool.length(row.session):
                raise ValueError(
                    f"{row.session}: row starts at {row.start}, cached {self._pool.length(row.session)}"
                )
        return [self._place(index, row) for index, row in enumerate(rows)]

    def _answers(self, packing: Packing, hidden: Tensor, rows: Sequence[TargetRow]) -> list[Choices]:
        """What each row chooses, in the order of the rows. hidden: of the packed sequence, after the last norm."""
        answers = [Choices(())] * len(rows)
        if packing.choosers:
            logits = self._head.logits(hidden[self._to_device(packing.chosen)])
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

    def _slot(self, session: str, position: int) -> int:
        return (
            self._pool.table(session)[position // self._page_tokens] * self._page_tokens
            + position % self._page_tokens
        )

    def _to_device(self, values: Ids) -> Tensor:
        return torch.from_numpy(values).to(self._at, non_blocking=True)


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
