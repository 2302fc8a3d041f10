"""Vocabularies, compared to check that two models mean the same token by each id. Pure: JSON and bytes.

Drafts are token ids, so device and core must agree on every id. An entry is (id, bytes, special): the bytes that the
token stands for, and whether it lies outside ordinary text. Entries are equal whether they are read from a Hugging Face
`tokenizer.json` or from GGUF, which keeps the same spellings:

- byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM): each character spells one byte;
- SentencePiece (Llama 2, Gemma): "▁" is a space and "<0xAB>" is one byte;
- added tokens (chat and tool markers) are literal text in both; *special* means added. Finer flags differ between
  tools: GGUF converters call `<|fim_prefix|>` of Qwen2.5 a control token, its tokenizer.json does not.

Rows of the output head without a token ("[PAD151665]" in GGUF) are left out, and so are placeholders of images: they
occur in no text, and only the larger Gemma 3 models have one.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

BLOCK: Final = 256  # ids in one block digest
BLOCK_DIGEST: Final = 4  # bytes
PLACEHOLDERS: Final = frozenset({b"<image_soft_token>"})
_PADDING: Final = re.compile(rb"\[PAD(\d+)\]|<dummy\d{5}>")
_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")

# Fields of the deployment record (`Keys.deployment`).
FIELD_HASH: Final = "vocabulary"
FIELD_BLOCKS: Final = "vocabulary_blocks"


class VocabularyError(ValueError):
    """A tokenizer cannot be read; the text names the file and the reason."""


class Entry(NamedTuple):
    """One token, excluding padding and placeholders."""

    id: int
    text: bytes  # the bytes that it stands for; of an added token its literal content
    special: bool  # an added token, outside ordinary text


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model.

    hash: of all entries, in hex. size: V, the highest id plus one; logits from V on are padding. blocks: digests of
    blocks of 256 ids, 8 hex digits each, published by the core so that a device can report where it differs.
    """

    hash: str
    size: int
    blocks: str
    entries: tuple[Entry, ...]  # ascending ids

    @classmethod
    def from_entries(cls, entries: Iterable[Entry]) -> "Vocabulary":
        """Vocabulary of these tokens, in any order, without padding and placeholders. Raises VocabularyError."""
        real = tuple(sorted(entry for entry in entries if _is_real(entry)))
        if not real:
            raise VocabularyError("the vocabulary has no tokens")
        whole = blake2b(digest_size=16)
        blocks = [blake2b(digest_size=BLOCK_DIGEST) for _ in range(real[-1].id // BLOCK + 1)]
        for entry in real:
            packed = _packed(entry)
            whole.update(packed)
            blocks[entry.id // BLOCK].update(packed)
        return cls(whole.hexdigest(), real[-1].id + 1, "".join(block.hexdigest() for block in blocks), real)

    def published(self) -> dict[str, str]:
        """Fields that the core adds to its deployment record."""
        return {FIELD_HASH: self.hash, FIELD_BLOCKS: self.blocks}


def vocabulary_of_tokenizer_json(path: Path | str, rows: int | None = None) -> Vocabulary:
    """Vocabulary of a Hugging Face `tokenizer.json`.

    rows: rows of the model's output head (config.vocab_size); tokens beyond them cannot be sampled and are left out.
    None = no limit. Raises VocabularyError when the file is not such a tokenizer.
    """
    try:
        tokenizer = json.loads(Path(path).read_text(encoding="utf-8"))
        entries = list(_entries_of_tokenizer(tokenizer))
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VocabularyError(f"{path}: not a tokenizer.json: {error!r}") from None
    return Vocabulary.from_entries(entry for entry in entries if rows is None or entry.id < rows)


def first_differences(
    ours: Vocabulary, theirs: Vocabulary, n: int
) -> list[tuple[Entry | None, Entry | None]]:
    """Entries of the first n ids on which two vocabularies differ, as (ours, theirs); None = no such token."""
    mine, other = ({entry.id: entry for entry in v.entries} for v in (ours, theirs))
    ids = sorted(mine.keys() | other.keys())
    return list(islice(((mine.get(i), other.get(i)) for i in ids if mine.get(i) != other.get(i)), n))


def first_different_block(ours: Vocabulary, blocks: str) -> tuple[int, int] | None:
    """First block of ids, as a half-open interval, that differs from published digests; None = no difference."""
    width = 2 * BLOCK_DIGEST
    pairs = zip_longest(*(_pieces(digests, width) for digests in (ours.blocks, blocks)))
    for index, (mine, other) in enumerate(pairs):
        if mine != other:
            return index * BLOCK, (index + 1) * BLOCK
    return None


def byte_level(text: str) -> bytes:
    """Bytes of an ordinary byte-level BPE token. A character outside the alphabet stands for itself."""
    return b"".join(
        bytes([_BYTE_OF[char]]) if char in _BYTE_OF else char.encode("utf-8", "surrogatepass")
        for char in text
    )


def sentencepiece(text: str) -> bytes:
    """Bytes of an ordinary SentencePiece token: "▁" is a space, "<0xAB>" one byte."""
    if match := _BYTE.fullmatch(text):
        return bytes([int(match[1], 16)])
    return text.replace("▁", " ").encode("utf-8", "surrogatepass")


def added(text: str) -> bytes:
    """Bytes of an added token: its literal content. Runs of "▁" (Gemma's) are spaces, as GGUF spells them."""
    if text.strip("▁") == "":
        text = text.replace("▁", " ")
    return text.encode("utf-8", "surrogatepass")


def _entries_of_tokenizer(tokenizer: Mapping[str, Any]) -> Iterator[Entry]:
    model = tokenizer["model"]
    if model["type"] not in ("BPE", "Unigram"):
        raise VocabularyError(f"tokenizer model {model['type']} is not supported; BPE and Unigram are")
    spell: Callable[[str], bytes] = byte_level if _is_byte_level(tokenizer) else sentencepiece
    if model["type"] == "BPE":
        ordinary = {index: text for text, index in model["vocab"].items()}
    else:
        ordinary = {index: piece[0] for index, piece in enumerate(model["vocab"])}
    marks = {token["id"]: token["content"] for token in tokenizer.get("added_tokens") or ()}
    for index, text in ordinary.items():
        if index not in marks:
            yield Entry(index, spell(text), False)
    for index, text in marks.items():
        yield Entry(index, added(text), True)


def _is_byte_level(tokenizer: Mapping[str, Any]) -> bool:
    """Whether characters spell bytes: the pre-tokenizer or the decoder has a ByteLevel step."""
    steps = [tokenizer.get("pre_tokenizer"), tokenizer.get("decoder")]
    while steps:
        step = steps.pop()
        if step is None:
            continue
        if step["type"] == "ByteLevel":
            return True
        steps.extend(step.get("pretokenizers") or step.get("decoders") or ())
    return False


def _is_real(entry: Entry) -> bool:
    padding = _PADDING.fullmatch(entry.text)
    if padding and (padding[1] is None or int(padding[1]) == entry.id):
        return False
    return not (entry.special and entry.text in PLACEHOLDERS)


def _packed(entry: Entry) -> bytes:
    """Bytes of an entry for the hash: id and length as 4 bytes little-endian, the flag as one byte, then the text."""
    head = entry.id.to_bytes(4, "little") + len(entry.text).to_bytes(4, "little")
    return head + bytes([entry.special]) + entry.text


def _pieces(text: str, width: int) -> Iterator[str]:
    return (text[start : start + width] for start in range(0, len(text), width))


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF: Final = _byte_alphabet()
