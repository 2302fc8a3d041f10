"""Survival in one byte, and where it ends a draft."""

import pytest

from shared.speculative.survival import FULL, Survival, error_in, from_byte, to_byte


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_stands_for_a_survival_of_its_own(byte: int) -> None:
    assert to_byte(from_byte(byte)) == byte


def test_the_ends() -> None:
    assert to_byte(0.0) == 0
    assert to_byte(1.0) == FULL


def test_it_is_the_product_of_the_probabilities() -> None:
    survival = Survival()
    for probability in (0.9, 0.5, 0.0, 1.0):
        assert survival.add(probability)  # 0 stops nowhere
    assert list(survival.bytes) == [to_byte(0.9), to_byte(0.45), 0, 0]


def test_a_draft_ends_with_the_token_that_falls_below() -> None:
    survival = Survival(stop_below=to_byte(0.3))
    assert [survival.add(0.6) for _ in range(3)] == [True, True, False]  # 0.6, 0.36, 0.216
    assert Survival(stop_below=to_byte(0.3)).add(0.3)


@pytest.mark.parametrize(
    ("survival", "tokens", "error"),
    [
        (b"", 0, ""),
        (bytes((9, 9, 3)), 3, ""),
        (bytes((9, 9)), 3, "2 survival bytes for 3 tokens"),
        (b"\x00", 0, "1 survival bytes for 0 tokens"),
        (bytes((3, 9)), 2, "rises"),
    ],
)
def test_bytes_of_a_device_are_checked(survival: bytes, tokens: int, error: str) -> None:
    found = error_in(survival, tokens)
    assert error in found
    assert bool(found) == bool(error)
