"""Deltas concatenate to the whole text, and half a character never leaves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.detokenizer import REPLACEMENT, Detokenizer
from services.gateway.tokenizer import TargetTokenizer
from tests.services.gateway.tokenizers_for_tests import byte_bpe, sentencepiece

TOKENIZERS = {"byte-level": byte_bpe, "sentencepiece": sentencepiece}


def deltas(tokenizer: TargetTokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.push(token) for token in ids), detokenizer.flush()]


def whole(tokenizer: TargetTokenizer, ids: list[int]) -> str:
    return tokenizer.decode([token for token in ids if token not in tokenizer.hidden])


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


def test_the_end_of_a_text_shows_what_was_left_of_a_character() -> None:
    tokenizer = byte_bpe()
    by_bytes = {data: token for token, data in tokenizer.vocabulary.bytes_of.items() if len(data) == 1}
    assert deltas(tokenizer, [by_bytes[b"\xe2"]]) == ["", REPLACEMENT]


def test_special_tokens_have_no_text() -> None:
    tokenizer = byte_bpe()
    word = tokenizer.encode("the")
    assert "".join(deltas(tokenizer, [1, *word, 2, *word, 0])) == "thethe"


def test_a_space_between_words_survives_the_window() -> None:
    tokenizer = sentencepiece()
    the, dog = 260, 261
    assert "".join(deltas(tokenizer, [the, dog, dog])) == "the dog dog"
