"""Tokens of a GGUF file as entries of a vocabulary."""

from typing import Any

import llama_cpp as llama
import pytest

from services.draft_worker import llama_model
from shared.protocol.vocabulary import Entry

ORDINARY = llama.LLAMA_TOKEN_ATTR_NORMAL
CONTROL = llama.LLAMA_TOKEN_ATTR_CONTROL


def test_an_ordinary_token_that_looks_like_an_end_mark_stays_ordinary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """llama.cpp sets the control flag of Qwen's "</s>" beside the ordinary one; its tokenizer.json has it plain."""
    tokens: list[tuple[bytes, Any]] = [
        ("Ġhi".encode(), ORDINARY),
        (b"</s>", ORDINARY | CONTROL),
        (b"<|im_end|>", CONTROL),
        (b"<tool_call>", llama.LLAMA_TOKEN_ATTR_USER_DEFINED),
    ]
    monkeypatch.setattr(llama, "llama_vocab_type", lambda vocab: llama.LLAMA_VOCAB_TYPE_BPE)
    monkeypatch.setattr(llama, "llama_vocab_get_text", lambda vocab, token: tokens[token][0])
    monkeypatch.setattr(llama, "llama_vocab_get_attr", lambda vocab, token: tokens[token][1])
    assert list(llama_model._entries(None, len(tokens))) == [
        Entry(0, b" hi", False),
        Entry(1, b"</s>", False),
        Entry(2, b"<|im_end|>", True),
        Entry(3, b"<tool_call>", True),
    ]
