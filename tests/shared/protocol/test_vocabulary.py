"""Vocabularies from tokenizer.json and from GGUF are equal, and differences are reported."""

import json
from pathlib import Path

import pytest

from shared.protocol.vocabulary import (
    BLOCK,
    Entry,
    Vocabulary,
    VocabularyError,
    added,
    byte_level,
    first_differences,
    first_different_block,
    sentencepiece,
    vocabulary_of_tokenizer_json,
)

WORDS = [Entry(i, f"w{i}".encode(), False) for i in range(1000)]


def tokenizer(path: Path, **fields: object) -> Path:
    path.write_text(json.dumps({"added_tokens": [], "pre_tokenizer": None, "decoder": None} | fields))
    return path


def test_byte_level_alphabet_spells_every_byte() -> None:
    # GPT-2's: printable characters are themselves, space is Ġ, newline Ċ; "é" is the bytes C3 A9.
    assert byte_level("Ġhello") == b" hello"
    assert byte_level("Ċ") == b"\n"
    assert byte_level("Ã©") == "é".encode()
    assert byte_level("▁x") == "▁x".encode()  # not of the alphabet: itself


def test_sentencepiece_spaces_and_bytes() -> None:
    assert sentencepiece("▁the") == b" the"
    assert sentencepiece("<0xAB>") == b"\xab"
    assert sentencepiece("<0xABC>") == b"<0xABC>"


def test_added_runs_of_spaces_are_spelt_as_gguf_spells_them() -> None:
    assert added("▁▁▁") == b"   " == added("   ")
    assert added("<｜end▁of▁sentence｜>") == "<｜end▁of▁sentence｜>".encode()


def test_byte_level_tokenizer_json(tmp_path: Path) -> None:
    path = tokenizer(
        tmp_path / "tokenizer.json",
        model={"type": "BPE", "vocab": {"!": 0, "Ġa": 1, "<|im_end|>": 2}},
        decoder={"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteLevel"}]},
        added_tokens=[
            {"id": 2, "content": "<|im_end|>", "special": True},
            {"id": 3, "content": "<tool_call>", "special": False},
        ],
    )
    vocabulary = vocabulary_of_tokenizer_json(path)
    assert vocabulary.entries == (
        Entry(0, b"!", False),
        Entry(1, b" a", False),
        Entry(2, b"<|im_end|>", True),
        Entry(3, b"<tool_call>", True),  # added, whatever its finer flag says
    )
    assert vocabulary.size == 4


def test_sentencepiece_tokenizer_json(tmp_path: Path) -> None:
    bpe = tokenizer(
        tmp_path / "bpe.json",
        model={"type": "BPE", "vocab": {"<unk>": 0, "<0x0A>": 1, "▁a": 2}},
        decoder={"type": "Sequence", "decoders": [{"type": "Replace"}, {"type": "ByteFallback"}]},
        added_tokens=[{"id": 0, "content": "<unk>"}],
    )
    unigram = tokenizer(
        tmp_path / "unigram.json",
        model={"type": "Unigram", "vocab": [["<unk>", 0.0], ["<0x0A>", -1.0], ["▁a", -2.0]]},
        pre_tokenizer={"type": "Metaspace"},
        added_tokens=[{"id": 0, "content": "<unk>"}],
    )
    expected = (Entry(0, b"<unk>", True), Entry(1, b"\n", False), Entry(2, b" a", False))
    assert vocabulary_of_tokenizer_json(bpe).entries == expected
    assert vocabulary_of_tokenizer_json(unigram).hash == vocabulary_of_tokenizer_json(bpe).hash


def test_padding_and_placeholders_do_not_count() -> None:
    plain = Vocabulary.from_entries(WORDS)
    padding = [Entry(i, f"[PAD{i}]".encode(), i % 2 == 0) for i in range(1000, 1200)]
    dummy = [Entry(1200, b"<dummy00001>", True), Entry(1201, b"<image_soft_token>", True)]
    assert Vocabulary.from_entries([*padding, *WORDS, *dummy]) == plain
    assert plain.size == 1000
    other = Vocabulary.from_entries([*WORDS, Entry(1000, b"[PAD7]", False)])  # a token of that spelling
    assert other.hash != plain.hash


def test_tokens_beyond_the_output_head_do_not_count(tmp_path: Path) -> None:
    path = tokenizer(
        tmp_path / "t.json",
        model={"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}},
        decoder={"type": "ByteLevel"},
    )
    assert vocabulary_of_tokenizer_json(path, rows=2).size == 2


@pytest.mark.parametrize(
    "change", [Entry(700, b"w7OO", False), Entry(700, b"w700", True), Entry(1000, b"x", False)]
)
def test_every_difference_changes_the_hash_and_is_named(change: Entry) -> None:
    ours = Vocabulary.from_entries(WORDS)
    theirs = Vocabulary.from_entries([entry for entry in WORDS if entry.id != change.id] + [change])
    assert ours.hash != theirs.hash
    mine = WORDS[change.id] if change.id < 1000 else None
    assert first_differences(ours, theirs, 3) == [(mine, change)]
    low = change.id // BLOCK * BLOCK
    assert first_different_block(ours, theirs.blocks) == (low, low + BLOCK)


def test_equal_vocabularies_have_no_different_block() -> None:
    ours = Vocabulary.from_entries(WORDS)
    assert first_different_block(ours, ours.blocks) is None
    assert first_different_block(ours, "") == (0, BLOCK)
    assert ours.published() == {"vocabulary": ours.hash, "vocabulary_blocks": ours.blocks}
    assert len(ours.hash) <= 64  # the heartbeat's field


def test_first_differences_come_in_order_and_are_limited() -> None:
    ours = Vocabulary.from_entries(WORDS)
    theirs = Vocabulary.from_entries(Entry(entry.id, entry.text + b"!", False) for entry in WORDS)
    assert [pair[0].id for pair in first_differences(ours, theirs, 4) if pair[0]] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"model": {"type": "WordPiece", "vocab": {}}}',
        '{"model": {"type": "BPE", "vocab": {}}}',
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(VocabularyError):
        vocabulary_of_tokenizer_json(path)
    with pytest.raises(VocabularyError, match=r"missing\.json"):
        vocabulary_of_tokenizer_json(tmp_path / "missing.json")
