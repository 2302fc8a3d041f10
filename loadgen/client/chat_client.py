"""What the load loops need of a client: of the HTTP client, or of the simulator's on virtual time."""

from collections.abc import Mapping
from typing import Protocol

from loadgen.request import Record


class ChatClient(Protocol):
    """Sends requests and records their answers."""

    @property
    def in_flight(self) -> Mapping[str, Record]:
        """Records of requests in progress, by the request's id."""
        ...

    def now(self) -> float:
        """Seconds of the clock of all records."""
        ...

    async def complete(self, record: Record) -> None:
        """Send the record's request and read its answer into the record. Errors are in the record, not raised."""
        ...
