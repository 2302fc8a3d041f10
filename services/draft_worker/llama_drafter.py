"""A draft model in llama.cpp: several sessions in one context, one sequence each, drafted in one decode.

Low-level calls of llama-cpp-python only. Choices for a CPU (docs/benchmarks.md): flash attention on, one unified
KV cache in float16, logits only where a token is drafted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import llama_cpp as llama
import numpy as np
import structlog

from services.draft_worker.backends import load_backends
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
from services.draft_worker.llama_log import keep_errors, reason
from shared.compute.drafter import DraftRequest, DraftResult
from shared.protocol.vocabulary import Entry, Vocabulary, VocabularyError, added, byte_level, sentencepiece
from shared.speculative.draw import draw_sure

log = structlog.get_logger()

MICRO_BATCH: Final = 128  # tokens computed at once; bounds the size of compute buffers
_ADDED: Final = (
    llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_USER_DEFINED | llama.LLAMA_TOKEN_ATTR_UNKNOWN
)
_NO_SLOT: Final = 1  # llama_decode: no cells for this batch


class ModelFileError(RuntimeError):
    """A draft model that cannot be used; the text names the file and the reason."""


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
        keep_errors(lambda line: log.error("llama.cpp", message=line))
        load_backends()
        self.path = Path(path)
        self.capacity = limits.sessions
        self._model = _load(self.path)
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._rows = llama.llama_vocab_n_tokens(self._vocab)
        vocabulary = self.full_vocabulary()
        self.vocabulary, self.vocab = vocabulary.hash, vocabulary.size
        self._context = _context(self._model, limits, threads, self.path)
        self._memory = llama.llama_get_memory(self._context)
        positions = _positions(self._model, limits)
        self._book = KvBook(limits.kv_tokens, limits.sessions, positions, limits.kept)
        self._works: dict[str, Work] = {}  # oldest first
        self._batch = llama.llama_batch_init(SHORT * limits.sessions + PREFILL_ALONE, 0, 1)
        self._warm_up()

    def full_vocabulary(self) -> Vocabulary:
        """The model's real tokens with their texts. It takes some megabytes, so it is not kept."""
        try:
            return Vocabulary.from_entries(_entries(self._vocab, self._rows))
        except VocabularyError as error:
            raise ModelFileError(f"{self.path}: {error}") from None

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
        llama.llama_model_free(self._model)

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
                logits = np.ctypeslib.as_array(
                    llama.llama_get_logits_ith(self._context, at), shape=(self._rows,)
                )
                work.add(*draw_sure(logits, work.request.sampling, len(work.track.held)))

    def _change(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Copy):
                llama.llama_memory_seq_cp(self._memory, change.sequence, change.to, 0, change.length)
            else:
                llama.llama_memory_seq_rm(self._memory, change.sequence, change.keep, -1)

    def _warm_up(self) -> None:
        """Run one decode, so that the first draft does not wait for page faults."""
        batch = self._batch
        batch.n_tokens, batch.token[0], batch.pos[0], batch.n_seq_id[0] = 1, 0, 0, 1
        batch.seq_id[0][0], batch.logits[0] = 0, 1
        if llama.llama_decode(self._context, batch) != 0:
            raise ModelFileError(f"{self.path}: the model does not decode: {reason()}")
        llama.llama_memory_clear(self._memory, True)


def _result(work: Work, error: str = "") -> DraftResult:
    request = work.request
    survival = bytes(work.survival.bytes)
    return DraftResult(request.session, len(request.ids), tuple(work.drafted), survival, work.spent_us, error)


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    if not model:
        raise ModelFileError(f"{path}: not a GGUF model that llama.cpp can load: {reason()}")
    if llama.llama_model_has_encoder(model) or not llama.llama_model_has_decoder(model):
        raise ModelFileError(f"{path}: not a decoder-only model")
    if llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model):
        raise ModelFileError(f"{path}: a recurrent model cannot take back rejected drafts")
    return model


def _positions(model: Any, limits: Limits) -> int:
    """Maximum positions of one session: the model's training context, if the file gives it."""
    return llama.llama_model_n_ctx_train(model) or limits.kv_tokens


def _context(model: Any, limits: Limits, threads: int, path: Path) -> Any:
    params = llama.llama_context_default_params()
    params.n_ctx = limits.kv_tokens
    params.n_batch = SHORT * limits.sessions + PREFILL_ALONE
    params.n_ubatch = MICRO_BATCH
    params.n_seq_max = limits.sessions + limits.kept
    params.n_outputs_max = params.n_seq_max  # one row of logits per sequence, not per token
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.kv_unified = True  # long sessions may use cells that short ones leave free
    params.swa_full = True  # a rollback needs positions outside the sliding window
    params.no_perf = True
    context = llama.llama_init_from_model(model, params)
    if not context:
        raise ModelFileError(f"{path}: no context of {limits.kv_tokens} KV tokens: {reason()}")
    return context


def _entries(vocab: Any, rows: int) -> Iterator[Entry]:
    """The tokens of a GGUF file as llama.cpp reports them, including padding rows."""
    spellings = {llama.LLAMA_VOCAB_TYPE_BPE: byte_level, llama.LLAMA_VOCAB_TYPE_SPM: sentencepiece}
    spell = spellings.get(llama.llama_vocab_type(vocab))
    if spell is None:
        raise VocabularyError("only byte-level BPE and SentencePiece vocabularies are handled")
    for token in range(rows):
        text = llama.llama_vocab_get_text(vocab, token).decode("utf-8", "replace")
        attr = llama.llama_vocab_get_attr(vocab, token)
        # llama.cpp also marks ordinary tokens that look like end marks (Qwen's "</s>") as control tokens.
        special = bool(attr & _ADDED) and not attr & llama.LLAMA_TOKEN_ATTR_NORMAL
        yield Entry(token, added(text) if special else spell(text), special)
