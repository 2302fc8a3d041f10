"""Contacts the endpoint of a command before it starts."""

from dataclasses import replace

import aiohttp

from loadgen.client.streaming import Client
from loadgen.commands.exit import cli_errors, fail
from loadgen.run.options import RunOptions
from loadgen.run.plan import endpoint
from loadgen.run.runner import Endpoint


async def contact(options: RunOptions) -> tuple[RunOptions, Endpoint]:
    """Find the endpoint, its model, and whether it accepts more than OpenAI's fields. Ends the command on errors."""
    with cli_errors():
        where = endpoint(options)
    try:
        async with Client(where.url, where.api_key, timeout_s=10) as client:
            model = options.model or await client.model()
            plain = options.plain or not await client.is_outrider()
    except aiohttp.ClientConnectorError as error:
        fail(f"no server answers at {where.url}: {error.strerror}")
    except (aiohttp.ClientError, TimeoutError, LookupError, ValueError, TypeError) as error:
        fail(
            f"{where.url}/v1/models: {type(error).__name__}: {error}; is the endpoint up, and the key right?"
        )
    return replace(options, model=model, plain=plain), replace(where, plain=plain)
