"""A record of what a draft model does along the target's own texts, position by position.

At each position of a text the draft model is given all tokens before it (teacher forcing). Under shared noise the
tokens it drafts from there do not depend on where its draft began. So a draft of k tokens is accepted up to the first
position that is no hit, and one record replays every k of every policy exactly.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from shared.speculative.noise import mix
from shared.speculative.params import SamplingParams
from shared.speculative.survival import from_byte

SCHEMA: Final = 1
TAIL: Final = 15  # confidences kept after a miss, so that drafts of up to 16 tokens are known
MAX_BYTES: Final = 64 << 20


class RecordError(ValueError):
    """A record that cannot be used; the text names the file and the field."""


@dataclass(frozen=True, slots=True)
class RecordedText:
    """One text, by position of the answer.

    hits: whether the drafted token is the target's. seconds: whether the draft's second choice is, where the first is
    not. confidence: probability of the drafted token, in 255ths. tails: by position of a miss, the confidences of the
    tokens that are drafted after the wrong one, TAIL of them.
    """

    temperature: float
    seed: int
    hits: tuple[bool, ...]
    seconds: tuple[bool, ...]
    confidence: bytes
    tails: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def alpha(self) -> float:
        """Share of hits."""
        return sum(self.hits) / len(self.hits)


@dataclass(frozen=True, slots=True)
class AcceptanceRecord:
    """Texts of one pair of models. header: models, versions and hardware of the recording."""

    header: Mapping[str, Any]
    texts: tuple[RecordedText, ...]

    @property
    def alpha(self) -> float:
        """Share of hits over all texts."""
        hits = [hit for text in self.texts for hit in text.hits]
        return sum(hits) / len(hits)

    def at(self, temperature: float) -> "AcceptanceRecord":
        """The texts of the nearest recorded temperature."""
        nearest = min({text.temperature for text in self.texts}, key=lambda one: abs(one - temperature))
        return AcceptanceRecord(self.header, tuple(t for t in self.texts if t.temperature == nearest))


class Replay:
    """A record as the source of drafts that are right or wrong. Sessions take the texts in turn, by their seed.

    text_of: index of the text by a session's seed, of those whose text is known.
    """

    def __init__(self, record: AcceptanceRecord, text_of: Mapping[int, int] = MappingProxyType({})) -> None:
        self._by_temperature: dict[float, tuple[RecordedText, ...]] = {}
        self._record, self._text_of = record, text_of

    def is_right(self, sampling: SamplingParams, at: int) -> bool:
        """Whether the draft at a position of a session's answer is right. Longer answers begin the text again."""
        text = self._text(sampling)
        return text.hits[at % len(text.hits)]

    def confidence(self, sampling: SamplingParams, at: int, beyond: int = 0) -> float:
        """The draft's probability of its token at a position of a session's answer, on the target's path.

        beyond: of the token that it drafts so many positions later, where it misses at that position. A record keeps
        TAIL of those; further ones are as the last, and those of a miss without any as the miss.
        """
        text = self._text(sampling)
        place = at % len(text.hits)
        if beyond == 0:
            return from_byte(text.confidence[place])
        tail = text.tails.get(place) or text.confidence[place : place + 1]
        return from_byte(tail[min(beyond, len(tail)) - 1])

    def _text(self, sampling: SamplingParams) -> RecordedText:
        texts = self._by_temperature.get(sampling.temperature)
        if texts is None:
            texts = self._by_temperature[sampling.temperature] = self._record.at(sampling.temperature).texts
        return texts[self._text_of.get(sampling.seed, mix(sampling.seed)) % len(texts)]


def write_record(path: Path, record: AcceptanceRecord) -> None:
    """Write a record atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    document = {"schema": SCHEMA, **record.header, "texts": [_packed(text) for text in record.texts]}
    lines = json.dumps(document, ensure_ascii=False).replace('{"temperature"', '\n{"temperature"')
    partial.write_text(lines + "\n", encoding="utf-8")
    partial.replace(path)


def read_record(path: Path) -> AcceptanceRecord:
    """Read a record. Raises RecordError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("schema") != SCHEMA:
            raise RecordError(
                f"{path}: schema: this version reads schema {SCHEMA}; `outrider record` writes it"
            )
        texts = tuple(_unpacked(text) for text in document.pop("texts"))
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; `outrider record` writes one") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{path}: not a record of `outrider record`: {error!r}") from None
    if not texts or not all(text.hits for text in texts):
        raise RecordError(f"{path}: texts: none, or one without positions")
    return AcceptanceRecord(document, texts)


def _packed(text: RecordedText) -> dict[str, Any]:
    return {
        "temperature": text.temperature,
        "seed": text.seed,
        "hits": _bits(text.hits),
        "seconds": _bits(text.seconds),
        "confidence": b64encode(text.confidence).decode(),
        "tails": {str(at): b64encode(tail).decode() for at, tail in text.tails.items()},
    }


def _unpacked(found: Mapping[str, Any]) -> RecordedText:
    hits, seconds = _flags(found["hits"]), _flags(found["seconds"])
    confidence = b64decode(found["confidence"], validate=True)
    if not len(hits) == len(seconds) == len(confidence):
        raise ValueError("hits, seconds and confidence differ in length")
    tails = {int(at): b64decode(tail, validate=True) for at, tail in found["tails"].items()}
    return RecordedText(float(found["temperature"]), int(found["seed"]), hits, seconds, confidence, tails)


def _bits(flags: tuple[bool, ...]) -> str:
    return "".join("1" if flag else "0" for flag in flags)


def _flags(bits: str) -> tuple[bool, ...]:
    if set(bits) - {"0", "1"}:
        raise ValueError("a position that is neither 0 nor 1")
    return tuple(bit == "1" for bit in bits)
