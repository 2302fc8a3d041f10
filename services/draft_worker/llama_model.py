"""A draft model's GGUF file in llama.cpp: its weights, its vocabulary, and contexts that compute with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import llama_cpp as llama
import numpy as np
import numpy.typing as npt
import structlog

from services.draft_worker.backends import load_backends
from services.draft_worker.llama_log import keep_errors, reason
from shared.protocol.vocabulary import Entry, Vocabulary, VocabularyError, added, byte_level, sentencepiece

log = structlog.get_logger()

MICRO_BATCH: Final = 128  # tokens computed at once; bounds the size of compute buffers
_ADDED: Final = (
    llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_USER_DEFINED | llama.LLAMA_TOKEN_ATTR_UNKNOWN
)


class ModelFileError(RuntimeError):
    """A draft model that cannot be used; the text names the file and the reason."""


class LlamaModel:
    """A loaded model. Raises ModelFileError when the file cannot be used."""

    def __init__(self, path: Path | str) -> None:
        keep_errors(lambda line: log.error("llama.cpp", message=line))
        load_backends()
        self.path = Path(path)
        self._handle = _load(self.path)
        self._vocab = llama.llama_model_get_vocab(self._handle)
        self._rows = llama.llama_vocab_n_tokens(self._vocab)

    def vocabulary(self) -> Vocabulary:
        """The model's real tokens with their texts. It takes some megabytes, so it is not kept."""
        try:
            return Vocabulary.from_entries(_entries(self._vocab, self._rows))
        except VocabularyError as error:
            raise ModelFileError(f"{self.path}: {error}") from None

    def positions(self, kv_tokens: int) -> int:
        """Maximum positions of one session: the model's training context, if the file gives it."""
        return llama.llama_model_n_ctx_train(self._handle) or kv_tokens

    def context(self, kv_tokens: int, sequences: int, batch: int, threads: int) -> Any:
        """A context with one KV cache of so many tokens for all sequences. batch: maximum tokens of a decode.

        Raises ModelFileError when it cannot be made, or does not decode. The caller frees it.
        """
        params = llama.llama_context_default_params()
        params.n_ctx = kv_tokens
        params.n_batch = batch
        params.n_ubatch = MICRO_BATCH
        params.n_seq_max = sequences
        # One row of logits per sequence, not per token. llama.cpp aborts the process when it is less.
        params.n_outputs_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.kv_unified = (
            True  # long sessions may use cells that short ones leave free; sequences share cells
        )
        params.swa_full = True  # a rollback needs positions outside the sliding window
        params.no_perf = True
        context = llama.llama_init_from_model(self._handle, params)
        if not context:
            raise ModelFileError(f"{self.path}: no context of {kv_tokens} KV tokens: {reason()}")
        self._warm_up(context)
        return context

    def logits(self, context: Any, index: int) -> npt.NDArray[np.float32]:
        """Logits of the token at an index of the last batch, valid until the next decode. [V and padding]"""
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, index), shape=(self._rows,))

    def close(self) -> None:
        """Free the weights. Contexts must be freed before."""
        llama.llama_model_free(self._handle)

    def _warm_up(self, context: Any) -> None:
        """Run one decode, so that the first draft does not wait for page faults."""
        batch = llama.llama_batch_init(1, 0, 1)
        batch.n_tokens, batch.token[0], batch.pos[0], batch.n_seq_id[0] = 1, 0, 0, 1
        batch.seq_id[0][0], batch.logits[0] = 0, 1
        code = llama.llama_decode(context, batch)
        llama.llama_batch_free(batch)
        if code != 0:
            raise ModelFileError(f"{self.path}: the model does not decode: {reason()}")
        llama.llama_memory_clear(llama.llama_get_memory(context), True)


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
