"""Lookup drafts: text repeats itself, so what followed the same words before may follow them again.

Saxena, "Prompt lookup decoding", 2023. It costs some tens of microseconds and needs no model, only the session's own
tokens.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

MIN_MATCH: Final = 3  # tokens; shorter repetitions foretell little
MAX_MATCH: Final = 32  # longer ones count as that long
MAX_PLACES: Final = 256  # the latest occurrences of MIN_MATCH tokens, so that no text makes it slow

Ids = npt.NDArray[np.int64]


def continuation(ids: Ids, k: int) -> tuple[int, ...]:
    """The k tokens after the longest earlier occurrence of the end of `ids`; () when none has MIN_MATCH tokens.

    ids: [n], at least one. Of occurrences of one length the latest counts. Where it overlaps the end, the text is taken
    to go on with the same period. Example: 1 2 3 4 5 1 2 3, k = 2 -> 4 5; 7 8 9 7 8 9 7 8 9, k = 4 -> 7 8 9 7.
    """
    last = ids.size - 1
    ends = np.flatnonzero(ids[:last] == ids[last])  # last positions of the earlier occurrences
    length = min(1, ends.size)
    while 0 < length < MAX_MATCH:
        longer = ends[ends >= length]
        longer = longer[ids[longer - length] == ids[last - length]]
        if not longer.size:
            break
        ends, length = longer, length + 1
        if length >= MIN_MATCH:
            ends = ends[-MAX_PLACES:]
    if length < MIN_MATCH:
        return ()
    return tuple(np.resize(ids[ends[-1] + 1 :], k).tolist())
