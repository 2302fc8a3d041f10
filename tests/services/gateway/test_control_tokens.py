"""Detection of control tokens, and a tokenizer copy with renamed ones."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from services.gateway.chat_template import ChatTemplate
from services.gateway.control_tokens import control_tokens, renamed
from services.gateway.tokenizer import load_tokenizer
from shared.runtime.service import BadFile
from tests.services.gateway.test_tokenizer import write_folder


def tokenizer_of(*special: str, others: tuple[str, ...] = ()) -> Tokenizer:
    """Letters a to e; "ab" and "abc" are merged, and any of them may be added again."""
    pieces = [*"abcde", "ab", "abc"]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[("a", "b"), ("ab", "c")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_tokens([AddedToken(text, special=False) for text in others])
    return tokenizer


def test_special_tokens_and_turn_marks_are_control_tokens() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"
        "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% if '</think>' in m.content %}?{% endif %}"
        "{% endfor %}\n\n<bot>"
    )
    tokenizer = tokenizer_of("<eos>", others=("<user>", "<bot>", "</think>", "<b>", "\n\n"))
    found = control_tokens(tokenizer, ChatTemplate(source, {}))
    assert found == {text: tokenizer.token_to_id(text) for text in ("<eos>", "<user>", "<bot>")}


def test_only_the_new_name_is_read_as_the_token() -> None:
    tokenizer = tokenizer_of("<eos>", "ab", others=("<user>",))
    copy = renamed(tokenizer, {"<eos>": "<7-1>", "<user>": "<7-2>", "ab": "<7-3>"})
    ids = {text: tokenizer.token_to_id(text) for text in ("<eos>", "<user>", "ab", *"abcde")}
    assert copy.encode("e <7-1><7-2> <7-3> d").ids == [
        ids[text] for text in ("e", "<eos>", "<user>", "ab", "d")
    ]
    # The letters of "ab" are not merged into the token either; "abc" could only be made by way of it.
    assert copy.encode("ab abc").ids == [ids[letter] for letter in "ababc"]
    assert tokenizer.encode("ab").ids == [ids["ab"]]
    assert copy.get_vocab_size() == tokenizer.get_vocab_size()


def test_names_that_are_not_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="'<bos>'"):
        renamed(tokenizer_of("<eos>", "<bos>"), {"<eos>": "<7>", "<bos>": "<7>"})


def test_a_tokenizer_that_cannot_be_copied_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("the token '<eos>' cannot be told from its text")

    monkeypatch.setattr("services.gateway.chat_prompt.renamed", refuse)
    folder = write_folder(tmp_path, chat_template="{{ messages[0].content }}")
    with pytest.raises(BadFile, match=r"tokenizer\.json: .*'<eos>'.*OUTRIDER_SPECIAL_TOKENS_IN_TEXT"):
        load_tokenizer(folder)
    assert load_tokenizer(folder, special_in_text=True).encode_chat(
        [{"role": "user", "content": "<eos>"}]
    ) == [256]
