"""The passes that are measured: every width with every length and every context."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from cli.command.errors import CommandError
from shared.planning.fit import FitError, Timed, split

MAX_NUMBER: Final = 1 << 20  # largest width, length or context


@dataclass(frozen=True, slots=True)
class PassShape:
    """A pass. new, cached: new and cached tokens of each row."""

    rows: int
    new: int
    cached: int


@dataclass(frozen=True, slots=True)
class Grid:
    """widths: rows of a pass. lengths: new tokens of a row. contexts: cached tokens of a row."""

    widths: tuple[int, ...]
    lengths: tuple[int, ...]
    contexts: tuple[int, ...]
    repeats: int

    def cells(self) -> Iterator[PassShape]:
        """Every pass, ordered by context."""
        for context in self.contexts:
            for rows in self.widths:
                yield from (PassShape(rows, new, context) for new in self.lengths)

    def __len__(self) -> int:
        return len(self.widths) * len(self.lengths) * len(self.contexts)

    @property
    def longest(self) -> int:
        """Tokens of the longest row, cached and new."""
        return max(self.contexts) + max(self.lengths)

    def kv_tokens(self, page_tokens: int) -> int:
        """Cache for the sessions of all contexts at once, in whole pages."""
        lengths = (context + max(self.lengths) for context in self.contexts)
        return max(self.widths) * sum(-(-length // page_tokens) * page_tokens for length in lengths)


FULL: Final = Grid((1, 2, 4, 8, 16), (1, 2, 3, 5, 9), (32, 128, 512), 5)
QUICK: Final = Grid((1, 4, 8), (1, 2, 3, 5, 9), (128, 512), 3)


def grid(base: Grid, widths: str, lengths: str, contexts: str) -> Grid:
    """The base with these lists of numbers in place of its own; "" = unchanged. Raises CommandError."""
    changed = replace(
        base,
        widths=_numbers("--widths", widths) or base.widths,
        lengths=_numbers("--lengths", lengths) or base.lengths,
        contexts=_numbers("--contexts", contexts) or base.contexts,
    )
    try:
        split([Timed(cell.rows, cell.new, cell.cached, 1.0) for cell in changed.cells()])
    except FitError as error:
        raise CommandError(f"--widths, --lengths and --contexts: {error}") from None
    return changed


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Ascending, without duplicates. Example: "1,8,4" -> (1, 4, 8)."""
    if not text:
        return ()
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1 or numbers[-1] > MAX_NUMBER:
        raise CommandError(f"{option} {text}: must be positive integers separated by commas, such as 1,4,16")
    return tuple(numbers)
