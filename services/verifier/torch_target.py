"""The real target: a transformers model, our packed attention and a paged KV pool, behind `TargetModel`."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.verifier.chooser import Chooser
from services.verifier.cpu_times import read_cpu_times
from services.verifier.families import shape_of
from services.verifier.head import Head
from services.verifier.linear import fit_linears
from services.verifier.malloc_trim import MallocTrimmer
from services.verifier.packed import NAME, KvStore, PackedPass
from services.verifier.packing import Ids, Packing, pack
from services.verifier.paged_target import PagedTarget
from services.verifier.thread_governor import ThreadGovernor
from shared.compute.target import Choices, TargetRow


class TorchTarget(PagedTarget):
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
        shape = shape_of(model.config)
        model.eval().set_attn_implementation(NAME)
        fit_linears(model)
        super().__init__(
            rows=model.get_input_embeddings().weight.shape[0],
            positions=shape.positions,
            vocabulary=vocabulary,
            vocab=vocab,
            vocabulary_blocks=vocabulary_blocks,
            kv_tokens=kv_tokens,
            page_tokens=page_tokens,
            prefix_sharing=prefix_sharing,
            max_context=max_context,
            device=model.device.type,
        )
        self._shape, self._at = shape, model.device
        self._head = Head(model.get_output_embeddings(), shape.final_softcap)
        self._chooser = Chooser(self._head, vocab, model.device)
        self._body = model.get_decoder()
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.kv_bytes = shape.kv_bytes(model.dtype.itemsize)  # of one cached token
        self._store = KvStore(shape, self.pool_tokens, model.dtype, model.device)
        self._trimmer = MallocTrimmer() if self.device == "cpu" else None
        self.governor = _governor() if self.device == "cpu" else None

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

    @torch.inference_mode()
    def logits(self, rows: Sequence[TargetRow]) -> list[npt.NDArray[np.float32]]:
        """One pass that chooses nothing: per row the logits of its choices, [choices, V]. Raises ValueError."""
        found = [np.empty((0, self.vocab), dtype=np.float32)] * len(rows)
        if not rows:
            return found
        packing, hidden = self._pass(rows)
        if packing.choosers:
            logits = self._head.logits(hidden[self._to_device(packing.chosen)])[:, : self.vocab]
            ends = np.cumsum([placed.row.choices for placed in packing.choosers])
            parts = np.split(logits.float().cpu().numpy(), ends[:-1])
            for placed, part in zip(packing.choosers, parts, strict=True):
                found[placed.index] = part
        return found

    def _forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """One pass over the rows."""
        return self._chooser.answers(*self._pass(rows), rows)

    def _pass(self, rows: Sequence[TargetRow]) -> tuple[Packing, Tensor]:
        """The rows' packing and their hidden rows after the last norm; their KV is cached then."""
        packing = pack(self._packed(rows), self._page_tokens, self.pool_tokens, self._call_cost)
        hidden = self._run_body(packing)
        for row in rows:
            self._pool.fed(row.session, row.start + row.committed)
        return packing, hidden

    def fill_with_noise(self) -> None:
        """Noise in every page: a benchmark's context, where a prefill would take minutes."""
        self._store.keys.normal_()
        self._store.values.normal_()

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next pass on; fewer while other processes compete for the cores."""
        torch.set_num_threads(threads)
        if self.governor:
            self.governor.limit_to(threads)

    def _run_body(self, packing: Packing) -> Tensor:
        """Hidden rows after the last norm. [T, hidden]"""
        hidden: Tensor = self._body(
            input_ids=self._to_device(packing.ids)[None],
            position_ids=self._to_device(packing.positions)[None],
            use_cache=False,
            packed=PackedPass(packing, self._store, self._shape, self._page_tokens),
        ).last_hidden_state[0]
        return hidden

    def _to_device(self, values: Ids) -> Tensor:
        return torch.from_numpy(values).to(self._at, non_blocking=True)

    @torch.inference_mode()
    def _move(self, source: Sequence[int], target: Sequence[int]) -> None:
        self._store.move(source, target)


def _governor() -> ThreadGovernor | None:
    """The governor of CPU threads; None where the system does not report CPU times."""
    if read_cpu_times() is None:
        return None
    return ThreadGovernor(torch.get_num_threads(), len(os.sched_getaffinity(0)))
