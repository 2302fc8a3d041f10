"""The endpoint that a command is about, reached before anything is planned."""

from dataclasses import replace

import aiohttp

from loadgen.client import Client
from loadgen.commands.ends import leave, told
from loadgen.options import Asked, endpoint
from loadgen.run import Endpoint


async def reached(asked: Asked) -> tuple[Asked, Endpoint]:
    """The endpoint, its model, and whether it knows more than OpenAI's fields."""
    with told():
        where = endpoint(asked)
    try:
        async with Client(where.url, where.api_key, timeout_s=10) as client:
            model = asked.model or await client.model()
            plain = asked.plain or not await client.is_outrider()
    except aiohttp.ClientConnectorError as error:
        leave(f"nobody answers at {where.url}: {error.strerror}")
    except (aiohttp.ClientError, TimeoutError, LookupError, ValueError, TypeError) as error:
        leave(
            f"{where.url}/v1/models: {type(error).__name__}: {error}; is the endpoint up, and the key right?"
        )
    return replace(asked, model=model, plain=plain), where
