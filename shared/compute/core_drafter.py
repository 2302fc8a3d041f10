"""Protocol of a drafter in the verifier's own process, and the one that looks text up in the session itself."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared.compute.drafter import DraftRequest
from shared.speculative.lookup import continuation


class CoreDrafter(Protocol):
    """Drafts for rows that no device has drafted for. Every method is called on the compute thread, before a pass.

    Its time is the core's: one that is not nearly free must be worth it.
    """

    def draft(self, requests: Sequence[DraftRequest]) -> list[tuple[int, ...]]:
        """For each request, of different sessions, up to k tokens after its ids; () when there are none to offer."""
        ...

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        ...


class LookupDrafter:
    """CoreDrafter that continues the longest earlier occurrence of a session's last tokens."""

    def __init__(self) -> None:
        self._texts: dict[str, _Text] = {}

    def draft(self, requests: Sequence[DraftRequest]) -> list[tuple[int, ...]]:
        """What followed these tokens before."""
        texts = (self._texts.setdefault(request.session, _Text()) for request in requests)
        return [
            continuation(text.follow(request.ids), request.k)
            for text, request in zip(texts, requests, strict=True)
        ]

    def forget(self, session: str) -> None:
        """Free the session's tokens."""
        self._texts.pop(session, None)


class _Text:
    """A session's tokens as an array that grows with them: to make a new one each time would take longer than to
    search it.
    """

    __slots__ = ("_array", "_length")

    def __init__(self) -> None:
        self._array, self._length = np.empty(256, dtype=np.int64), 0

    def follow(self, ids: Sequence[int]) -> npt.NDArray[np.int64]:
        """These tokens, to which a session only ever adds. [n]"""
        length = len(ids)
        if length > self._array.size:
            self._array = np.resize(self._array, 2 * length)
        self._array[self._length : length] = ids[self._length :]
        self._length = length
        return self._array[:length]
