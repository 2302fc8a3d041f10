"""Text to token ids, without holding Python's lock for long."""

from typing import Final

from tokenizers import Tokenizer

SHORT_CHARS: Final = 4096  # tokenized in a few milliseconds


def ids_of(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> list[int]:
    """Token ids of a text. A long text is encoded as a batch of one: `encode` holds Python's lock, a batch does not."""
    if len(text) <= SHORT_CHARS:
        return list(tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)
    return list(tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids)
