"""Text to token ids without keeping other threads from running."""

from typing import Final

from tokenizers import Tokenizer

SHORT_CHARS: Final = 4096  # tokenized in less than a few milliseconds


def ids_of(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> list[int]:
    """The ids of a text. Long ones are a batch of one: `encode` holds Python's lock to its end, a batch does not."""
    if len(text) <= SHORT_CHARS:
        return list(tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)
    return list(tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids)
