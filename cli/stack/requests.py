"""Requests that a measurement needs the answers of."""

from collections.abc import Sequence

from cli.command.errors import CommandError
from loadgen.client.streaming import Client
from loadgen.request import ChatRequest, Record


async def answers(client: Client, requests: Sequence[ChatRequest]) -> list[Record]:
    """Send all requests at once and wait for the answers. Raises CommandError if one fails."""
    records = await client.chat_all(list(requests))
    errors = [record.error for record in records if record.error]
    if errors:
        raise CommandError(f"{len(errors)} of {len(records)} requests failed: {errors[0]}")
    return records
