"""Log-probabilities in OpenAI's two forms: parallel lists for completions, a list of objects for chats."""

from collections.abc import Iterator
from typing import Any, Final

from services.gateway.choice import Piece
from services.gateway.tokenizer import TargetTokenizer
from shared.protocol.messages import TokenLogprobs

FLOOR: Final = -9999.0  # stands for minus infinity, which JSON cannot express


def completion_logprobs(piece: Piece, tokenizer: TargetTokenizer, top: int) -> dict[str, Any]:
    """`logprobs` of a text completion's choice. As at OpenAI, top_logprobs includes the sampled token."""
    entries = list(zip(piece.tokens, piece.logprobs, strict=True))
    return {
        "tokens": [tokenizer.token_text(token) for token in piece.tokens],
        "token_logprobs": [_finite(own) for _, (own, _, _) in entries],
        "top_logprobs": [
            {tokenizer.token_text(id_): value for id_, value in _top(token, entry, top, own_too=True)}
            for token, entry in entries
        ],
        "text_offset": list(piece.offsets),
    }


def chat_logprobs(piece: Piece, tokenizer: TargetTokenizer, top: int) -> dict[str, Any]:
    """`logprobs` of a chat's choice."""
    content = [
        {
            **_entry(tokenizer, token, _finite(entry[0])),
            "top_logprobs": [
                _entry(tokenizer, id_, value) for id_, value in _top(token, entry, top, own_too=False)
            ],
        }
        for token, entry in zip(piece.tokens, piece.logprobs, strict=True)
    ]
    return {"content": content, "refusal": None}


def _entry(tokenizer: TargetTokenizer, token: int, logprob: float) -> dict[str, Any]:
    data = tokenizer.token_bytes(token)
    return {"token": tokenizer.token_text(token), "bytes": list(data), "logprob": logprob}


def _top(token: int, entry: TokenLogprobs, top: int, own_too: bool) -> Iterator[tuple[int, float]]:
    own, ids, values = entry
    yield from ((id_, _finite(value)) for id_, value in zip(ids[:top], values[:top], strict=True))
    if own_too and token not in ids[:top]:
        yield token, _finite(own)


def _finite(value: float) -> float:
    return value if value > FLOOR else FLOOR  # NaN becomes FLOOR too
