"""Draft trees in llama.cpp: one level of the trees of all sessions is one decode.

Low-level calls of llama-cpp-python only. `TreeBook` says which sequences share which cells of the one KV cache.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import llama_cpp as llama
import structlog

from services.draft_worker.kv import PREFILL_ALONE, SHORT, Change, Copy
from services.draft_worker.llama_model import LlamaModel
from services.draft_worker.tree_book import Piece, TreeBook, TreeLimits
from shared.compute.tree_drafter import ROOT, Expansion, GrowRequest, Growth, check, check_ids
from shared.protocol.vocabulary import Vocabulary
from shared.speculative.candidates import SPREAD, Candidate, ranked

log = structlog.get_logger()

_NO_SLOT: Final = 1  # llama_decode: no cells for this batch


class LlamaTreeDrafter:
    """TreeDrafter on a GGUF file. Raises ModelFileError when the file cannot be used.

    spread: of the estimate of a candidate's probability (shared/speculative/candidates.py).
    """

    def __init__(
        self, path: Path | str, limits: TreeLimits, threads: int = 1, spread: float = SPREAD
    ) -> None:
        self.capacity = limits.sessions
        self._spread = spread
        self._model = LlamaModel(path)
        vocabulary = self.full_vocabulary()
        self.vocabulary, self.vocab = vocabulary.hash, vocabulary.size
        tokens = SHORT * limits.sessions + PREFILL_ALONE + limits.nodes
        self._context = self._model.context(limits.kv_tokens, limits.sequences, tokens, threads)
        self._memory = llama.llama_get_memory(self._context)
        self._book = TreeBook(limits, self._model.positions(limits.kv_tokens))
        self._batch = llama.llama_batch_init(tokens, 0, 1)

    def full_vocabulary(self) -> Vocabulary:
        """The model's real tokens with their texts. It takes some megabytes, so it is not kept."""
        return self._model.vocabulary()

    def grow(self, requests: Sequence[GrowRequest]) -> list[Growth]:
        """Answer requests of different sessions by one decode. Raises ValueError for one that makes no sense."""
        check(requests)
        began = llama.llama_time_us()
        expansions, errors = self._grow(requests)
        spent = int(llama.llama_time_us() - began)
        return [
            self._growth(request, expansions, errors.get(request.session, ""), spent) for request in requests
        ]

    def cost_s(self, requests: Sequence[GrowRequest]) -> float:
        """0: the cost of a real model is its computing time."""
        return 0.0

    def advance(self, session: str, ids: Sequence[int]) -> int:
        """Follow the committed tokens. Returns the number of the node that is now the root, else ROOT."""
        check_ids(session, ids)
        track = self._book.tracks.get(session)
        if track is None:
            return ROOT
        self._change(self._book.advance(session, ids))
        return track.tree.root

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        self._change(self._book.close(session))

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next call on."""
        llama.llama_set_n_threads(self._context, threads, threads)

    def close(self) -> None:
        """Free the model. The drafter cannot be used afterwards."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        self._model.close()

    @property
    def kv_tokens(self) -> int:
        """KV cells used by or reserved for open sessions."""
        return self._book.cells

    def _grow(self, requests: Sequence[GrowRequest]) -> tuple[dict[str, list[Expansion]], dict[str, str]]:
        """Expansions and errors by session. Decodes all requests at once, or each alone when that fails."""
        level = self._book.plan(requests)
        self._change(level.changes)
        code = self._run(level.pieces) if level.pieces else 0
        if code == 0:
            return self._take(level.pieces), level.errors
        log.error("decode failed", code=code, pieces=len(level.pieces), kv_tokens=self.kv_tokens)
        for piece in level.pieces:
            self._change(self._book.undo(piece))
        fed = {piece.request.session: piece.request for piece in level.pieces}
        expansions: dict[str, list[Expansion]] = {}
        errors = level.errors
        if len(fed) == 1:
            (session,) = fed
            errors[session] = "no KV cell is free" if code == _NO_SLOT else f"llama_decode answered {code}"
            self._change(self._book.close(session, keep=False))
            return expansions, errors
        for request in fed.values():
            alone, failed = self._grow([request])
            expansions |= alone
            errors |= failed
        return expansions, errors

    def _growth(
        self, request: GrowRequest, expansions: dict[str, list[Expansion]], error: str, spent_us: int
    ) -> Growth:
        track = self._book.tracks.get(request.session)
        return Growth(
            request.session,
            len(request.ids),
            tuple(expansions.get(request.session, ())),
            track.missing if track else 0,
            spent_us,
            error,
        )

    def _run(self, pieces: Sequence[Piece]) -> int:
        batch, n = self._batch, 0
        for piece in pieces:
            for offset, token in enumerate(piece.tokens):
                batch.token[n] = token
                batch.pos[n] = piece.start + offset
                batch.n_seq_id[n] = 1
                batch.seq_id[n][0] = piece.sequence
                batch.logits[n] = 0
                n += 1
            batch.logits[n - 1] = piece.node is not None
        batch.n_tokens = n
        return int(llama.llama_decode(self._context, batch))

    def _take(self, pieces: Sequence[Piece]) -> dict[str, list[Expansion]]:
        """After a decode: record the fed tokens, and the candidates of each expanded node. By session."""
        expansions: dict[str, list[Expansion]] = {}
        at = -1  # index in the batch of the piece's last token
        for piece in pieces:
            at += len(piece.tokens)
            expansion = self._book.take(piece, () if piece.node is None else self._candidates(piece, at))
            if expansion is not None:
                expansions.setdefault(piece.request.session, []).append(expansion)
        return expansions

    def _candidates(self, piece: Piece, at: int) -> tuple[Candidate, ...]:
        request, position = piece.request, piece.start + len(piece.tokens)
        logits = self._model.logits(self._context, at)
        return ranked(logits, request.sampling, position, request.width, self._spread)

    def _change(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Copy):
                llama.llama_memory_seq_cp(self._memory, change.sequence, change.to, 0, change.length)
            else:
                llama.llama_memory_seq_rm(self._memory, change.sequence, change.keep, -1)
