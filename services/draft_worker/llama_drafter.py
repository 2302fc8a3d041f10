"""A draft model in llama.cpp: several sessions in one context, one sequence each, drafted in one decode.

Low-level calls of llama-cpp-python only. Choices for a CPU (docs/benchmarks.md): flash attention on, one unified
KV cache in float16, logits only where a token is drafted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import llama_cpp as llama
import structlog

from services.draft_worker.kv import (
    PREFILL_ALONE,
    SHORT,
    Change,
    Copy,
    Cut,
    FedPiece,
    KvBook,
    Work,
    next_batch,
)
from services.draft_worker.llama_model import LlamaModel
from shared.compute.drafter import DraftRequest, DraftResult
from shared.protocol.vocabulary import Vocabulary
from shared.speculative.draw import draw_sure

log = structlog.get_logger()

_NO_SLOT: Final = 1  # llama_decode: no cells for this batch


@dataclass(frozen=True, slots=True)
class Limits:
    """The drafter's limits: sessions at once, and KV tokens of all sessions together."""

    sessions: int = 8
    kv_tokens: int = 4096

    @property
    def kept(self) -> int:
        """Number of closed sessions whose KV is kept. Small, since attention reads their cells too."""
        sequences: int = llama.llama_max_parallel_sequences()
        return max(0, min(self.sessions // 2, sequences - self.sessions))


class LlamaDrafter:
    """Drafter on a GGUF file. Raises ModelFileError when the file cannot be used."""

    def __init__(self, path: Path | str, limits: Limits, threads: int = 1) -> None:
        self.capacity = limits.sessions
        self._model = LlamaModel(path)
        vocabulary = self.full_vocabulary()
        self.vocabulary, self.vocab = vocabulary.hash, vocabulary.size
        tokens = SHORT * limits.sessions + PREFILL_ALONE
        sequences = limits.sessions + limits.kept
        self._context = self._model.context(limits.kv_tokens, sequences, tokens, threads)
        self._memory = llama.llama_get_memory(self._context)
        positions = self._model.positions(limits.kv_tokens)
        self._book = KvBook(limits.kv_tokens, limits.sessions, positions, limits.kept)
        self._works: dict[str, Work] = {}  # oldest first
        self._batch = llama.llama_batch_init(tokens, 0, 1)

    def full_vocabulary(self) -> Vocabulary:
        """The model's real tokens with their texts. It takes some megabytes, so it is not kept."""
        return self._model.vocabulary()

    def start(self, request: DraftRequest) -> None:
        """Start a request, replacing one of the same session. Raises NoCapacity."""
        work, changes = self._book.admit(request)
        self._change(changes)
        self._works.pop(request.session, None)
        self._works[request.session] = work

    def step(self) -> list[DraftResult]:
        """Run one decode; returns the requests that it finished."""
        began = llama.llama_time_us()
        pieces = next_batch(list(self._works.values()))
        refused = self._decode(pieces) if pieces else []
        spent = llama.llama_time_us() - began
        for work in self._works.values():
            work.spent_us += spent
        results = [_result(work) for work in self._works.values() if work.done]
        for result in results:
            del self._works[result.session]
        return results + refused

    def busy(self) -> bool:
        """Whether any request is under way."""
        return bool(self._works)

    def costs_s(self) -> Sequence[float]:
        """(): the cost of a real model is its computing time."""
        return ()

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        self._works.pop(session, None)
        self._change(self._book.close(session))

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next step on."""
        llama.llama_set_n_threads(self._context, threads, threads)

    def close(self) -> None:
        """Free the model. The drafter cannot be used afterwards."""
        self._works.clear()
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        self._model.close()

    @property
    def kv_tokens(self) -> int:
        """KV cells in use."""
        return sum(len(track.held) for track in self._book.tracks.values())

    def _decode(self, pieces: Sequence[FedPiece]) -> list[DraftResult]:
        """Decode all pieces at once, or each alone when that fails. Returns the requests that failed alone."""
        code = self._run(pieces)
        if code == 0:
            self._take(pieces)
            return []
        log.error("decode failed", code=code, pieces=len(pieces), kv_tokens=self.kv_tokens)
        for piece in pieces:
            self._change([Cut(piece.work.track.sequence, piece.start)])
        if len(pieces) > 1:
            return [result for piece in pieces for result in self._decode([piece])]
        work = pieces[0].work
        reason = "no KV cell is free" if code == _NO_SLOT else f"llama_decode answered {code}"
        self._works.pop(work.request.session, None)
        self._change(self._book.close(work.request.session, keep=False))
        return [_result(work, reason)]

    def _run(self, pieces: Sequence[FedPiece]) -> int:
        batch, n = self._batch, 0
        for piece in pieces:
            for offset, token in enumerate(piece.tokens):
                batch.token[n] = token
                batch.pos[n] = piece.start + offset
                batch.n_seq_id[n] = 1
                batch.seq_id[n][0] = piece.work.track.sequence
                batch.logits[n] = 0
                n += 1
            batch.logits[n - 1] = piece.choose
        batch.n_tokens = n
        return int(llama.llama_decode(self._context, batch))

    def _take(self, pieces: Sequence[FedPiece]) -> None:
        """After a decode: record the fed tokens and draw the next drafted tokens from the logits."""
        at = -1  # index in the batch of the piece's last token
        for piece in pieces:
            at += len(piece.tokens)
            work = piece.work
            work.track.held.extend(piece.tokens)
            if piece.choose:
                logits = self._model.logits(self._context, at)
                work.add(*draw_sure(logits, work.request.sampling, len(work.track.held)))

    def _change(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Copy):
                llama.llama_memory_seq_cp(self._memory, change.sequence, change.to, 0, change.length)
            else:
                llama.llama_memory_seq_rm(self._memory, change.sequence, change.keep, -1)


def _result(work: Work, error: str = "") -> DraftResult:
    request = work.request
    survival = bytes(work.survival.bytes)
    return DraftResult(request.session, len(request.ids), tuple(work.drafted), survival, work.spent_us, error)
