"""Control tokens (turn marks and the like), and a tokenizer copy that does not recognise them in text."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from tokenizers import Tokenizer

from services.gateway.chat_template import ChatTemplate, TemplateRefused

# Together these chats make a template write all of its turn marks.
_PROBES: Final = (
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
)


def control_tokens(tokenizer: Tokenizer, template: ChatTemplate) -> dict[str, int]:
    """Ids of control tokens by text.

    A token counts if the tokenizer marks it as special, or if it was added to the vocabulary and the template writes
    it: some models do not mark theirs as special. Other added tokens (runs of spaces, HTML tags) are ordinary text.
    """
    written = "".join(_rendered(template, roles) for roles in _PROBES)
    return {
        entry.content: token
        for token, entry in tokenizer.get_added_tokens_decoder().items()
        if entry.content.strip() and (entry.special or entry.content in written)
    }


def renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A copy of a tokenizer with tokens renamed (old text to new text). Ids stay; only new texts are recognised.

    Raises ValueError when this tokenizer does not allow it.
    """
    data = json.loads(tokenizer.to_str())
    for entry in data["added_tokens"]:
        entry["content"] = names.get(entry["content"], entry["content"])
    _rename_in_model(data["model"], names)
    try:
        copy = Tokenizer.from_str(json.dumps(data, ensure_ascii=False))
    except Exception as error:  # the library raises nothing more precise
        raise ValueError(str(error)) from error
    for old, new in names.items():
        if copy.token_to_id(new) != tokenizer.token_to_id(old) or copy.token_to_id(old) is not None:
            raise ValueError(f"the token {old!r} cannot be told from its text")
    if copy.get_vocab_size() != tokenizer.get_vocab_size():
        raise ValueError("the copy has another number of tokens")
    return copy


def _rename_in_model(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Rename in the model's vocabulary, which may hold added tokens too: merges could build one from its letters."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(text, text): token for text, token in vocab.items()}
    else:  # Unigram: pieces and their scores, in the order of their ids
        model["vocab"] = [[names.get(text, text), score] for text, score in vocab]
    if "merges" in model:
        pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if names.keys().isdisjoint([*pair, "".join(pair)])]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]


def _rendered(template: ChatTemplate, roles: tuple[str, ...]) -> str:
    with suppress(TemplateRefused):  # some templates refuse system messages
        return template.render([{"role": role, "content": "x"} for role in roles])
    return ""
