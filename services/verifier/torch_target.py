"""The real target: a transformers model, our packed attention and a paged KV pool, behind `TargetModel`."""

import os
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from services.verifier.cpu_times import read_cpu_times
from services.verifier.families import shape_of
from services.verifier.head import Head
from services.verifier.linear import fit_linears
from services.verifier.malloc_trim import MallocTrimmer
from services.verifier.packed import NAME, KvStore, PackedPass
from services.verifier.packing import Packing, Placed, choice_positions, pack, run_of
from services.verifier.pool import PagePool
from services.verifier.thread_governor import ThreadGovernor
from shared.compute.target import Choices, TargetRow
from shared.speculative.torch_rule import draw_rows

# Unneeded cached positions read at most to save one attention call, measured for 135M on 2 cores (24 µs a
# call, 75 ns a position); a GPU's calls cost about as much and its reads a hundredth.
CALL_COST: Final = {"cpu": 300, "cuda": 30_000}


class TorchTarget:
    """See TargetModel. Takes the model over: its attention implementation is replaced by the packed one."""

    def __init__(
        self,
        model: Any,
        *,
        vocabulary: str,
        vocab: int,
        vocabulary_blocks: str = "",
        kv_tokens: int,
        page_tokens: int = 16,
        prefix_sharing: bool = True,
        max_context: int | None = None,
    ) -> None:
        """model: a causal language model of transformers, on its device and in its dtype. vocab: real tokens.

        Raises UnsupportedModel.
        """
        self._shape = shape_of(model.config)
        model.eval().set_attn_implementation(NAME)
        fit_linears(model)
        self._body = model.get_decoder()
        self._head = Head(model.get_output_embeddings(), self._shape.final_softcap)
        self._rows = model.get_input_embeddings().weight.shape[0]
        self.vocabulary = vocabulary
        self.vocabulary_blocks = vocabulary_blocks  # digests, for a device that differs
        self.vocab = vocab
        self.max_context = min(max_context or self._shape.positions, self._shape.positions)
        self.pool_tokens = kv_tokens // page_tokens * page_tokens
        self._page_tokens = page_tokens
        device: torch.device = model.device
        self.device = device.type
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.kv_bytes = self._shape.kv_bytes(model.dtype.itemsize)  # of one cached token
        self._store = KvStore(self._shape, self.pool_tokens, model.dtype, device)
        self._call_cost = CALL_COST[device.type]
        self._trimmer = MallocTrimmer() if device.type == "cpu" else None
        self.governor = _governor() if device.type == "cpu" else None
        self._pool = PagePool(
            self.pool_tokens // page_tokens,
            page_tokens,
            sharing=prefix_sharing,
            contiguous=device.type == "cpu",
        )

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
            source, to = (pages + torch.arange(self._page_tokens)).flatten(1)
            self._store.move(source, to)
        return True

    @torch.inference_mode()
    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """Run one forward pass over rows of different sessions. Raises ValueError when a row does not fit the cache."""
        if not rows:
            return []
        begin = read_cpu_times() if self.governor else None
        answers = self._forward(rows)
        if self._trimmer:
            self._trimmer.after_pass()
        end = read_cpu_times() if begin else None
        if self.governor and begin and end:
            before = self.governor.threads
            if (threads := self.governor.after_pass(end.since(begin))) != before:
                torch.set_num_threads(threads)
        return answers

    def _forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """One pass over the rows."""
        packing = pack(
            [self._place(index, row) for index, row in enumerate(rows)],
            self._page_tokens,
            self.pool_tokens,
            self._call_cost,
        )
        hidden = self._run_body(packing)
        for row in rows:
            self._pool.fed(row.session, row.start + row.committed)
        answers = [Choices(())] * len(rows)
        if packing.choosers:
            logits = self._head.logits(hidden[self._to_device(packing.chosen)])
            for placed, choices in zip(packing.choosers, self._choose(packing, logits), strict=True):
                answers[placed.index] = choices
        return answers

    @torch.inference_mode()
    def keep(self, session: str, length: int, path: Sequence[int] = ()) -> None:
        """Roll back to the first `length` tokens, followed by the accepted draft nodes of `path`."""
        moved = [(length + node, length + i) for i, node in enumerate(path) if node != i]
        if moved:
            self._store.move(*([self._slot(session, at) for at in side] for side in zip(*moved, strict=True)))
        self._pool.keep(session, length + len(path))

    def forget(self, session: str) -> None:
        """Free all pages of a session. Unknown sessions are ignored."""
        self._pool.forget(session)

    def fill_with_noise(self) -> None:
        """Noise in every page: a benchmark's context, where a prefill would take minutes."""
        self._store.keys.normal_()
        self._store.values.normal_()

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """0.0: the cost of a real model is its computing time."""
        return 0.0

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next pass on; fewer while other processes compete for the cores."""
        torch.set_num_threads(threads)
        if self.governor:
            self.governor.limit_to(threads)

    def pages(self) -> tuple[int, int]:
        """KV pages (used, total)."""
        return self._pool.used, self._pool.pages

    def _place(self, index: int, row: TargetRow) -> Placed:
        """The row with its pages, once it is certain that it fits them."""
        table = self._pool.table(row.session)
        if row.start != self._pool.length(row.session):
            raise ValueError(
                f"{row.session}: row starts at {row.start}, cached {self._pool.length(row.session)}"
            )
        if not 1 <= row.committed <= len(row.tokens):
            raise ValueError(f"{row.session}: {row.committed} of {len(row.tokens)} tokens committed")
        if row.start + len(row.tokens) > len(table) * self._page_tokens:
            raise ValueError(f"{row.session}: row of {len(row.tokens)} tokens beyond its pages")
        if not all(0 <= token < self._rows for token in row.tokens):
            raise ValueError(f"{row.session}: token beyond the vocabulary of {self._rows}")
        return Placed(index, row, table, run_of(table, self._page_tokens))

    def _run_body(self, packing: Packing) -> Tensor:
        """Hidden rows after the last norm. [T, hidden]"""
        hidden: Tensor = self._body(
            input_ids=self._to_device(packing.ids)[None],
            position_ids=self._to_device(packing.positions)[None],
            use_cache=False,
            packed=PackedPass(packing, self._store, self._shape, self._page_tokens),
        ).last_hidden_state[0]
        return hidden

    def _choose(self, packing: Packing, logits: Tensor) -> list[Choices]:
        """The target's own tokens for each choosing row. logits: [n, vocabulary rows]"""
        rows = [placed.row for placed in packing.choosers]
        counts = [len(row.tokens) - row.committed + 1 for row in rows]
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

    def _to_device(self, values: Any) -> Tensor:
        return torch.from_numpy(values).to(self._store.keys.device, non_blocking=True)


def _governor() -> ThreadGovernor | None:
    """The governor of CPU threads; None where the system does not report CPU times."""
    if read_cpu_times() is None:
        return None
    return ThreadGovernor(torch.get_num_threads(), len(os.sched_getaffinity(0)))


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
