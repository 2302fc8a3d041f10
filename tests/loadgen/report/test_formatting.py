"""Numbers as a reader sees them."""

import pytest

from loadgen.report.formatting import format_number


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.1234, "0.12"), (12.34, "12.3"), (12345.6, "12,346")],
)
def test_a_number_has_about_three_digits(value: float | None, text: str) -> None:
    assert format_number(value) == text
