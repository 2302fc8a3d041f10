"""Response format of /v1/chat/completions."""

from typing import Any, Final

from services.gateway.choice import Piece
from services.gateway.logprobs import chat_logprobs
from services.gateway.tokenizer import TargetTokenizer


class ChatForm:
    """Formats chat completions. top: number of likeliest tokens requested; -1 = no logprobs."""

    prefix: Final = "chatcmpl"
    whole_object: Final = "chat.completion"
    chunk_object: Final = "chat.completion.chunk"

    def __init__(self, tokenizer: TargetTokenizer, top: int) -> None:
        self._tokenizer = tokenizer
        self._top = top

    def whole(self, index: int, piece: Piece) -> dict[str, Any]:
        """One choice of a complete response."""
        message = {"role": "assistant", "content": piece.text, "refusal": None}
        return {"index": index, "message": message, **self._rest(piece)}

    def delta(self, index: int, piece: Piece, first: bool) -> dict[str, Any]:
        """One choice of a stream's chunk; the first carries the role."""
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        if piece.text or first:
            delta["content"] = piece.text
        return {"index": index, "delta": delta, **self._rest(piece)}

    def _rest(self, piece: Piece) -> dict[str, Any]:
        logprobs = None if self._top < 0 else chat_logprobs(piece, self._tokenizer, self._top)
        return {"logprobs": logprobs, "finish_reason": piece.finish or None}
