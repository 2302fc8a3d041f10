"""Protocol of a drafter in the verifier's own process, and the one that looks text up in the session itself."""

from typing import Protocol

from shared.compute.drafter import DraftRequest
from shared.speculative.lookup import continuation


class CoreDrafter(Protocol):
    """Drafts for rows that no device has drafted for. Every method is called on the compute thread, before a pass.

    Its time is the core's: one that is not nearly free must be worth it.
    """

    def draft(self, request: DraftRequest) -> tuple[int, ...]:
        """Up to request.k tokens after request.ids; () when it has none to offer."""
        ...

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        ...


class LookupDrafter:
    """CoreDrafter that continues the longest earlier occurrence of a session's last tokens."""

    def draft(self, request: DraftRequest) -> tuple[int, ...]:
        """What followed these tokens before."""
        return continuation(request.ids, request.k)

    def forget(self, session: str) -> None:
        """Nothing is held."""
