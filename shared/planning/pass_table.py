"""A verifier's pass as it was measured, shape by shape, where a law would smooth over what the hardware does.

A pass of one token, for instance, may take half of what the law of larger passes says.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from shared.planning.cost import Packed, Row

_SHAPE: Final = re.compile(r"(\d+) x (\d+) @ (\d+)")  # rows, new tokens a row, cached tokens a row


@dataclass(frozen=True, slots=True)
class PassTable:
    """Times of passes by their number of new tokens: linear between measured ones, parallel to the law beyond them.

    tokens: ascending; ms: without cached tokens, which cost what the law says. Both have the same length, at least one.
    """

    tokens: tuple[int, ...]
    ms: tuple[float, ...]
    law: Packed

    @classmethod
    def of(cls, passes: Mapping[str, float], law: Packed) -> "PassTable":
        """The table of a profile's `passes`; medians where several shapes have as many tokens. Raises ValueError."""
        measured: dict[int, list[float]] = defaultdict(list)
        for name, ms in passes.items():
            shape = _SHAPE.fullmatch(name)
            if shape is None:
                raise ValueError(f"passes.{name}: not rows x new tokens @ cached tokens")
            rows, new, cached = map(int, shape.groups())
            measured[rows * new].append(max(0.0, ms - law.per_context_ms * rows * cached))
        if not measured:
            raise ValueError("passes: none was measured")
        tokens = sorted(measured)
        return cls(tuple(tokens), tuple(median(measured[n]) for n in tokens), law)

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one pass over these rows; 0.0 without rows."""
        if not rows:
            return 0.0
        return self._of_tokens(sum(new for new, _ in rows)) + self.law.per_context_ms * sum(
            c for _, c in rows
        )

    def _of_tokens(self, count: int) -> float:
        at = bisect_left(self.tokens, count)
        if at == len(self.tokens):
            return self.ms[-1] + self.law.per_token_ms * (count - self.tokens[-1])
        if at == 0 or self.tokens[at] == count:
            return self.ms[at]
        below, above = self.tokens[at - 1], self.tokens[at]
        share = (count - below) / (above - below)
        return self.ms[at - 1] + share * (self.ms[at] - self.ms[at - 1])
