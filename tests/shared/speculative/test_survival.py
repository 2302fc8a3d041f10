"""Survival in one byte."""

import pytest

from shared.speculative import survival


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_stands_for_a_survival_of_its_own(byte: int) -> None:
    assert survival.to_byte(survival.from_byte(byte)) == byte


def test_the_ends() -> None:
    assert survival.to_byte(0.0) == 0
    assert survival.to_byte(1.0) == survival.FULL
