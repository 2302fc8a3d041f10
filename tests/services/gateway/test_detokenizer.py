"""Deltas concatenate to the whole text and never contain part of a character."""

import codecs
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.decoders import DecodeStream

from services.gateway.detokenizer import REPLACEMENT, Detokenizer
from services.gateway.tokenizer import TargetTokenizer
from tests.services.gateway.tokenizers_for_tests import byte_bpe, sentencepiece

TOKENIZERS = {"byte-level": byte_bpe, "sentencepiece": sentencepiece}


def deltas(tokenizer: TargetTokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.push(token) for token in ids), detokenizer.flush()]


def whole(tokenizer: TargetTokenizer, ids: list[int]) -> str:
    """The text of ids, but for a last character that lacks bytes."""
    shown = [token for token in ids if token not in tokenizer.hidden]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(b"".join(map(tokenizer.token_bytes, shown)))
    if not tokenizer.byte_tokens:
        return text
    lacking = len(decoder.getstate()[0])  # each of these bytes is a token
    return tokenizer.decode(shown[: len(shown) - lacking])


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_any_tokens_concatenate_to_their_decoding(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]()
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocabulary.size - 1), max_size=24))
    parts = deltas(tokenizer, ids)
    full = whole(tokenizer, ids)
    assert "".join(parts) == full
    for end in range(len(parts)):  # at no time more, or other, than the whole text begins with
        assert full.startswith("".join(parts[:end]))


@given(text=st.text(max_size=40))
def test_text_comes_back_as_it_went_in(text: str) -> None:
    tokenizer = byte_bpe()
    parts = deltas(tokenizer, tokenizer.encode(text))
    assert "".join(parts) == text
    assert REPLACEMENT in text or all(REPLACEMENT not in part for part in parts)


def test_an_emoji_waits_for_its_last_byte() -> None:
    tokenizer = byte_bpe()
    by_bytes = {data: token for token, data in tokenizer.vocabulary.bytes_of.items() if len(data) == 1}
    ids = [by_bytes[bytes([byte])] for byte in "a🎉b".encode()]
    assert deltas(tokenizer, ids) == ["a", "", "", "", "🎉", "b", ""]


def test_broken_bytes_show_as_soon_as_they_are_broken() -> None:
    tokenizer = byte_bpe()
    by_bytes = {data: token for token, data in tokenizer.vocabulary.bytes_of.items() if len(data) == 1}
    ids = [by_bytes[bytes([byte])] for byte in (0xFF, 0xE2, 0x82, 0x41)]
    assert deltas(tokenizer, ids) == ["", REPLACEMENT, "", REPLACEMENT + "A", ""]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xe2", ""),
        (b"\xe2\x82", ""),
        ("é".encode() + b"\xf0\x9f\x8e", "é"),
        (b"a\xff", "a" + REPLACEMENT),  # no byte can mend these: they are what the model wrote
        (b"a\xff\xe2", "a" + REPLACEMENT),
        (b"\xc0\x80", 2 * REPLACEMENT),
        (REPLACEMENT.encode(), REPLACEMENT),
        (REPLACEMENT.encode() + b"\xe2", REPLACEMENT),
    ],
)
def test_a_last_character_that_lacks_bytes_is_dropped(name: str, data: bytes, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    by_bytes = {data: token for token, data in tokenizer.vocabulary.bytes_of.items() if len(data) == 1}
    assert "".join(deltas(tokenizer, [by_bytes[bytes([byte])] for byte in data])) == text


def test_a_token_that_ends_inside_a_character_keeps_its_beginning() -> None:
    bytes_of = {5: b" a", 6: b" \xe2\x80", 7: b"\xa6!"}

    class Words:
        """Tokens of several bytes, as large byte-level vocabularies have them."""

        hidden: frozenset[int] = frozenset()
        byte_tokens: frozenset[int] = frozenset()

        def token_bytes(self, token: int) -> bytes:
            return bytes_of[token]

        def decode(self, ids: Sequence[int]) -> str:
            return b"".join(bytes_of[token] for token in ids).decode(errors="replace")

    for ids, text in (([5, 6], " a "), ([5, 6, 7], " a …!"), ([6, 6], f" {REPLACEMENT} ")):
        detokenizer = Detokenizer(Words())
        assert "".join([*(detokenizer.push(token) for token in ids), detokenizer.flush()]) == text


def test_special_tokens_have_no_text() -> None:
    tokenizer = byte_bpe()
    word = tokenizer.encode("the")
    assert "".join(deltas(tokenizer, [1, *word, 2, *word, 0])) == "thethe"


def test_a_space_between_words_survives_the_window() -> None:
    tokenizer = sentencepiece()
    the, dog = 260, 261
    assert "".join(deltas(tokenizer, [the, dog, dog])) == "the dog dog"


@pytest.mark.parametrize(
    ("name", "data", "ours", "streamed"),
    [
        # A run of raw-byte tokens decodes as a whole, so it may still change.
        ("sentencepiece", "€".encode() + b"\xe2A", 5 * REPLACEMENT, "€"),
        # No byte completes the first one, so its text is final.
        ("byte-level", b"\xff\xff", 2 * REPLACEMENT, ""),
    ],
)
def test_the_librarys_decode_stream_gives_another_text(
    name: str, data: bytes, ours: str, streamed: str
) -> None:
    """Once `streamed` equals `ours` everywhere, use DecodeStream instead."""
    tokenizer = TOKENIZERS[name]()
    by_bytes = {data: token for token, data in tokenizer.vocabulary.bytes_of.items() if len(data) == 1}
    ids = [by_bytes[bytes([byte])] for byte in data]
    assert "".join(deltas(tokenizer, ids)) == ours
    stream = DecodeStream(skip_special_tokens=True)
    assert "".join(stream.step(tokenizer._tokenizer, token) or "" for token in ids) == streamed
