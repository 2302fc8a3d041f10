"""Error messages are never empty."""

import errno

import pytest

from shared.runtime.errors import innermost, words


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("k: too large"), "k: too large"),
        (ValueError(), "ValueError"),
        (ValueError("  \n"), "ValueError"),
        (TimeoutError(), "no answer in time"),
        (TimeoutError("verifier is not ready"), "verifier is not ready"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/state"), "/state: Is a directory"),
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device"),
    ],
)
def test_words(error: Exception, text: str) -> None:
    assert words(error) == text


def test_the_error_is_taken_out_of_its_groups() -> None:
    error = KeyError("x")
    assert innermost(ExceptionGroup("a", [ExceptionGroup("b", [error]), ValueError()])) is error
    assert innermost(error) is error
