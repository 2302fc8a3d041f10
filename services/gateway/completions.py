"""Response format of /v1/completions."""

from typing import Any, Final

from services.gateway.choice import Piece
from services.gateway.logprobs import completion_logprobs
from services.gateway.tokenizer import TargetTokenizer


class CompletionForm:
    """Formats text completions. top: number of likeliest tokens requested; -1 = no logprobs."""

    prefix: Final = "cmpl"
    whole_object: Final = "text_completion"
    chunk_object: Final = "text_completion"

    def __init__(self, tokenizer: TargetTokenizer, top: int) -> None:
        self._tokenizer = tokenizer
        self._top = top

    def whole(self, index: int, piece: Piece) -> dict[str, Any]:
        """One choice of a complete response."""
        return self._choice(index, piece)

    def delta(self, index: int, piece: Piece, first: bool) -> dict[str, Any]:
        """One choice of a stream's chunk."""
        return self._choice(index, piece)

    def _choice(self, index: int, piece: Piece) -> dict[str, Any]:
        logprobs = None if self._top < 0 else completion_logprobs(piece, self._tokenizer, self._top)
        return {
            "index": index,
            "text": piece.text,
            "logprobs": logprobs,
            "finish_reason": piece.finish or None,
        }
