"""Changed copies of messages."""

from dataclasses import replace

import pytest

from shared.protocol.changes import changed
from shared.protocol.messages import Verdict

VERDICT = Verdict("s0-a", 1, 2, 10, tokens=(5, 6), length=12, drafted=3, accepted=1, next_k=4)


def test_it_is_what_replace_makes() -> None:
    assert changed(VERDICT, tokens=(), batch=7) == replace(VERDICT, tokens=(), batch=7)
    assert changed(VERDICT) == VERDICT
    assert VERDICT.tokens == (5, 6)


def test_an_unknown_field() -> None:
    with pytest.raises(KeyError, match="token"):
        changed(VERDICT, token=1)
