"""Lookup drafts: text repeats itself, so what followed the same words before may follow them again.

Saxena, "Prompt lookup decoding", 2023. It costs microseconds and needs no model, only the session's own tokens.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

MIN_MATCH: Final = 3  # tokens; shorter repetitions foretell little
MAX_MATCH: Final = 32  # longer ones count as that long


def continuation(ids: Sequence[int], k: int, min_match: int = MIN_MATCH) -> tuple[int, ...]:
    """The k tokens after the longest earlier occurrence of the end of `ids`; () when none has min_match tokens.

    Of occurrences of one length the latest counts. Where it overlaps the end, the text is taken to go on with the same
    period. Example: 1 2 3 4 5 1 2 3, k = 2 -> 4 5; 7 8 9 7 8 9 7 8 9, k = 4 -> 7 8 9 7.
    """
    text = np.asarray(ids)
    last = text.size - 1
    ends = np.flatnonzero(text[:-1] == text[-1])  # last positions of the earlier occurrences, [n]
    length = min(1, ends.size)
    while 0 < length < MAX_MATCH:
        longer = ends[ends >= length]
        longer = longer[text[longer - length] == text[last - length]]
        if not longer.size:
            break
        ends, length = longer, length + 1
    if length < min_match:
        return ()
    return tuple(np.resize(text[ends[-1] + 1 :], k).tolist())
