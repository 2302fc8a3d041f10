"""The target's tokenizer, read from its folder: text to ids, ids to text, and each token's bytes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from services.gateway.chat_prompt import ChatPrompt
from services.gateway.chat_template import ChatTemplate, Message, TemplateRefused
from services.gateway.encoding import ids_of
from shared.compute.modelled import STOP, modelled_vocabulary
from shared.protocol.vocabulary import VocabularyError, byte_level, vocabulary_of_tokenizer_json
from shared.runtime.service import BadFile

MODELLED_VOCAB: Final = 49152
_SPECIAL_NAMES: Final = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True, slots=True)
class TokenTable:
    """The vocabulary: its hash as in the deployment record, its size, and each token's bytes."""

    hash: str
    size: int
    bytes_of: Mapping[int, bytes]


class TargetTokenizer:
    """Tokenizer, chat template and stop ids of one target."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocabulary: TokenTable,
        template: ChatTemplate | None,
        stop_ids: Sequence[int],
        special_in_text: bool = False,
    ) -> None:
        """special_in_text: chat messages may contain control tokens. Raises ValueError as ChatPrompt does."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._chats = ChatPrompt(tokenizer, template, special_in_text) if template else None
        self.vocabulary = vocabulary
        self.stop_ids = tuple(stop_ids)  # tokens that end a text
        added = tokenizer.get_added_tokens_decoder()
        self.hidden = frozenset(token for token, entry in added.items() if entry.special)
        self.byte_tokens = _byte_tokens(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of a plain prompt. Special tokens in it count, and the tokenizer adds its own."""
        return ids_of(self._tokenizer, text, add_special_tokens=True)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Prompt ids of chat messages. Raises TemplateRefused."""
        if self._chats is None:
            raise TemplateRefused("this model has no chat template; use /v1/completions")
        return self._chats.ids(messages)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, none of which is hidden."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def token_bytes(self, token: int) -> bytes:
        """A token's bytes: an added token's literal content, b"" for an id without a token."""
        return self.vocabulary.bytes_of.get(token, b"")

    def token_text(self, token: int) -> str:
        """A token's text. Bytes that are not whole characters are written as OpenAI does: `bytes:\\xe2\\x80`."""
        data = self.token_bytes(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def load_tokenizer(folder: Path, special_in_text: bool = False) -> TargetTokenizer:
    """Load a tokenizer from tokenizer.json and the files beside it. Raises BadFile that names the file."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BadFile(f"{path}: no such file; OUTRIDER_MODEL_DIR must be the target's folder")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise BadFile(f"{path}: {error}") from error
    names = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    special = {name: text for name in _SPECIAL_NAMES if (text := _content(names.get(name)))}
    eos = tokenizer.token_to_id(special["eos_token"]) if "eos_token" in special else None
    known, template, stop_ids = _vocabulary(folder), _template(folder, special), _stop_ids(folder, eos)
    try:
        return TargetTokenizer(tokenizer, known, template, stop_ids, special_in_text)
    except ValueError as error:
        remedy = "only OUTRIDER_SPECIAL_TOKENS_IN_TEXT=true serves chats with it"
        raise BadFile(f"{path}: {error}; {remedy}") from error


def modelled_tokenizer(vocab: int = MODELLED_VOCAB, special_in_text: bool = False) -> TargetTokenizer:
    """The modelled target's tokenizer: encodes text as UTF-8 bytes and decodes tokens to made-up words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"Ġw{n}" for n in range(len(alphabet) + 1, vocab)]
    pieces = ["<stop>", *alphabet, *words]
    tokenizer = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([pieces[STOP]])
    bytes_of = {n: byte_level(piece) for n, piece in enumerate(pieces)}
    template = ChatTemplate(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:", {}
    )
    return TargetTokenizer(
        tokenizer,
        TokenTable(modelled_vocabulary(vocab), vocab, bytes_of),
        template,
        (STOP,),
        special_in_text,
    )


def _vocabulary(folder: Path) -> TokenTable:
    """The vocabulary as the core counts it, without tokens beyond the rows of the model's output head."""
    config = _read_json(folder / "config.json")
    rows = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    try:
        real = vocabulary_of_tokenizer_json(folder / "tokenizer.json", rows)
    except VocabularyError as error:
        raise BadFile(str(error)) from error
    return TokenTable(real.hash, real.size, {entry.id: entry.text for entry in real.entries})


def _stop_ids(folder: Path, eos: int | None) -> list[int]:
    """All ids that the target's files declare as an end of text."""
    found = set() if eos is None else {eos}
    for name in ("generation_config.json", "config.json"):
        declared = _read_json(folder / name).get("eos_token_id")
        found.update(declared if isinstance(declared, list) else [] if declared is None else [declared])
    return sorted(found)


def _template(folder: Path, special: Mapping[str, str]) -> ChatTemplate | None:
    source = _template_source(folder)
    try:
        return ChatTemplate(source, special) if source else None
    except jinja2.TemplateError as error:
        raise BadFile(f"{folder}: chat template: {error}") from error


def _template_source(folder: Path) -> str:
    """The template from its own file or from a field of the tokenizer's config, which may hold several by name."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    files = ("tokenizer_config.json", "chat_template.json")
    declared = next(
        (found for name in files if (found := _read_json(folder / name).get("chat_template"))), ""
    )
    if isinstance(declared, list):
        return next((str(entry["template"]) for entry in declared if entry.get("name") == "default"), "")
    return str(declared)


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} when there is no such file. Raises BadFile."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadFile(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise BadFile(f"{path}: a JSON object was expected")
    return data


def _content(entry: Any) -> str:
    """A special token's text: configs hold either the string or an object with `content`."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else ""


def _byte_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """SentencePiece's tokens of one raw byte; empty for a byte-level vocabulary."""
    found = (tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
    return frozenset(token for token in found if token is not None)
