"""How a command ends that cannot go on: one line on stderr, no traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer


@contextmanager
def told(*besides: type[Exception]) -> Iterator[None]:
    """Expected errors, and those besides, are one line; Ctrl-C ends cleanly."""
    from services.local.errors import EXPECTED

    expected: tuple[type[Exception], ...] = (*EXPECTED, *besides)
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except expected as error:
        leave(str(error))


def leave(message: str) -> NoReturn:
    """Say so and end with code 1."""
    print(f"outrider: {message}", file=sys.stderr)
    raise typer.Exit(1)
