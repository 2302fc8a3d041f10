"""Control tokens: those that open and close turns, and a tokenizer that does not read them out of text."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from tokenizers import Tokenizer

from services.gateway.chat_template import ChatTemplate, TemplateRefused

# Between them these use every turn mark that a template writes.
_PROBES: Final = (
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
)


def control_tokens(tokenizer: Tokenizer, template: ChatTemplate) -> dict[str, int]:
    """Ids of the control tokens by their text.

    A token is one if the tokenizer calls it special, or if it was added to the vocabulary and the template marks
    turns with it: some models do not call theirs special. Others that were added (runs of spaces, HTML tags) are
    ordinary text.
    """
    written = "".join(_rendered(template, roles) for roles in _PROBES)
    return {
        entry.content: token
        for token, entry in tokenizer.get_added_tokens_decoder().items()
        if entry.content.strip() and (entry.special or entry.content in written)
    }


def renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A copy in which tokens have other texts, from old to new, and the same ids. Only the new texts are read as them.

    Raises ValueError when that cannot be done to this tokenizer.
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
    """The vocabulary may hold added tokens too; then a model can put one together from its letters."""
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
    with suppress(TemplateRefused):  # some templates refuse a system's turn
        return template.render([{"role": role, "content": "x"} for role in roles])
    return ""
