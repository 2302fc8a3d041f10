"""A target's pages and sessions, wherever its layers run: what `TorchTarget` and `PipelinedTarget` share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from services.verifier.packing import Placed, run_of
from services.verifier.pool import PagePool
from shared.compute.target import TargetRow

# Unneeded cached positions read at most to save one attention call, measured for 135M on 2 cores (24 µs a
# call, 75 ns a position); a GPU's calls cost about as much and its reads a hundredth.
CALL_COST: Final = {"cpu": 300, "cuda": 30_000}


class PagedTarget(ABC):
    """Pool, and placing of rows. A subclass runs the layers, chooses and moves KV."""

    def __init__(
        self,
        *,
        rows: int,
        positions: int,
        vocabulary: str,
        vocab: int,
        vocabulary_blocks: str,
        kv_tokens: int,
        page_tokens: int,
        prefix_sharing: bool,
        max_context: int | None,
        device: str,
    ) -> None:
        """rows: of the embedding. positions: that the model has. vocab: real tokens. device: cpu or cuda."""
        self._rows = rows
        self.vocabulary = vocabulary
        self.vocabulary_blocks = vocabulary_blocks  # digests, for a device that differs
        self.vocab = vocab
        self.max_context = min(max_context or positions, positions)
        self.pool_tokens = kv_tokens // page_tokens * page_tokens
        self._page_tokens = page_tokens
        self.device = device
        self._call_cost = CALL_COST[device]
        self._pool = PagePool(
            self.pool_tokens // page_tokens,
            page_tokens,
            sharing=prefix_sharing,
            contiguous=device == "cpu",
        )

    @abstractmethod
    def _move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy the KV of slots in every layer, before anything that runs later."""

    def cached(self, session: str) -> int:
        """Committed tokens whose KV is held; 0 for an unknown session."""
        return self._pool.length(session)

    def admit(self, session: str, prompt: Sequence[int], protect: Sequence[str], length: int) -> bool:
        """Reserve KV for `length` tokens of a session; False when there are no pages."""
        if length > self.max_context or not self._pool.admit(session, prompt, protect, length):
            return False
        if self._pool.copies:
            size = self._page_tokens
            source, to = (
                [page * size + place for page in pages for place in range(size)]
                for pages in zip(*self._pool.copies, strict=True)
            )
            self._move(source, to)
        return True

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

    def _slot(self, session: str, position: int) -> int:
        return (
            self._pool.table(session)[position // self._page_tokens] * self._page_tokens
            + position % self._page_tokens
        )
