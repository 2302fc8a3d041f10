"""Incremental detokenizer: turns token ids into text without ever emitting part of a character."""

import codecs
from collections.abc import Collection, Sequence
from typing import Final, Protocol

REPLACEMENT: Final = "\ufffd"  # a decoder's output for bytes that are not, or not yet, a character


class Decoder(Protocol):
    """The parts of a tokenizer that turn ids into text."""

    @property
    def hidden(self) -> Collection[int]:
        """Special tokens, which have no text."""
        ...

    @property
    def byte_tokens(self) -> Collection[int]:
        """Tokens of one raw byte (`<0xE2>`), which decode only together with their neighbours."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, none of which is hidden."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """A token's bytes in UTF-8, possibly part of a character."""
        ...


class Detokenizer:
    """Concatenated results equal `decode` of all tokens together, without an unfinished character at the end.

    Text is decoded in windows, each from the last *clean* border, after which no later token can
    change what stands before it. A trailing replacement character may be the first half of a character, so it
    is held back; those before it are final (UTF-8 replaces each broken sequence as soon as it breaks). A run
    of raw-byte tokens is decoded as a whole, so it is held back until it ends. The window before the border is
    kept as context, because decoders strip or join at the start of what they are given.

    `DecodeStream` of tokenizers cannot do this: with raw-byte tokens its text can differ from `decode`, and it
    holds back text behind a byte that nothing can complete any more (a test holds both).
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._window: list[int] = []
        self._context = 0  # leading tokens of the window that lie before the clean border
        self._sent = 0  # characters of the window's text that were passed on

    def push(self, token: int) -> str:
        """Add a token; returns the text that is final now."""
        if token in self._decoder.hidden:
            return ""
        self._window.append(token)
        if token in self._decoder.byte_tokens:
            return ""
        text = self._decoder.decode(self._window)
        if text.endswith(REPLACEMENT):
            return self._pass_on(text[:-1])
        delta = self._pass_on(text)
        self._start_window()
        return delta

    def flush(self) -> str:
        """The remaining text, when no more tokens follow. An incomplete character is dropped."""
        if not self._window:
            return ""
        text = self._decoder.decode(self._window)
        if text.endswith(REPLACEMENT):
            text = self._without_unfinished(text)
        return self._pass_on(text)

    def _without_unfinished(self, text: str) -> str:
        """The window's text without a trailing incomplete character.

        Invalid bytes that no continuation could complete stay, and so does a U+FFFD that the model wrote.
        """
        missing = unfinished(b"".join(map(self._decoder.token_bytes, self._window)))
        if not missing:
            return text
        # A decoder writes one replacement for the end of a token of several bytes, but takes a run of raw-byte
        # tokens for broken as a whole.
        kept = list(self._window)
        while missing and kept[-1] in self._decoder.byte_tokens:
            kept.pop()
            missing -= 1
        return self._decoder.decode(kept) if not missing else text.removesuffix(REPLACEMENT)

    def _pass_on(self, text: str) -> str:
        delta = text[self._sent :]
        self._sent = max(self._sent, len(text))
        return delta

    def _start_window(self) -> None:
        del self._window[: self._context]
        self._context = len(self._window)
        self._sent = len(self._decoder.decode(self._window))


def unfinished(data: bytes) -> int:
    """Number of trailing bytes that form an incomplete UTF-8 character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return len(decoder.getstate()[0])
