"""Helpers that read the gateway's responses."""

import json
from typing import Any

import aiohttp

from tests.services.gateway.stack import MODEL, Stack

TEXT = "hello world, hello there"


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    """Decoded data of a stream's events; "[DONE]" stays a string."""
    assert response.status == 200, await response.text()
    assert response.content_type == "text/event-stream"
    lines = (await response.text()).split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


async def stream(stack: Stack, path: str = "/v1/completions", **fields: Any) -> list[Any]:
    body = {"model": MODEL, "prompt": "say it", "max_tokens": 100, "stream": True} | fields
    async with stack.client.post(path, json=body) as response:
        return await events(response)


def text_of(chunks: list[Any]) -> str:
    return "".join(choice["text"] for chunk in chunks if chunk != "[DONE]" for choice in chunk["choices"])
