"""`outrider chat`: streams an answer; accepted drafts are coloured."""

import json
from typing import Any

import aiohttp
from rich.console import Console

from services.local.errors import CommandError


async def run_chat(url: str, api_key: str, prompt: str, max_tokens: int, temperature: float) -> None:
    """One question, or a conversation until an empty line or Ctrl-D."""
    console = Console(highlight=False)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    messages: list[dict[str, str]] = []
    async with aiohttp.ClientSession(url, headers=headers) as session:
        while question := prompt or _ask(console):
            messages.append({"role": "user", "content": question})
            body = {
                "messages": messages,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "stream": True,
                "stream_options": {"include_usage": True},
                "outrider": {"spans": True},
            }
            messages.append({"role": "assistant", "content": await _answer(session, body, console)})
            if prompt:
                return


async def _answer(session: aiohttp.ClientSession, body: dict[str, Any], console: Console) -> str:
    text = ""
    usage: dict[str, Any] = {}
    body["model"] = await _model(session)
    async with session.post("/v1/chat/completions", json=body) as response:
        if response.status != 200:
            raise CommandError((await response.json())["error"]["message"])
        async for raw in response.content:
            line = raw.strip()
            if not line.startswith(b"data: ") or line == b"data: [DONE]":
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise CommandError(event["error"]["message"])
            usage = event.get("usage") or usage
            accepted = (event.get("outrider") or {}).get("accepted_chars", 0)
            for choice in event.get("choices", []):
                piece = choice["delta"].get("content") or ""
                text += piece
                for part, style in ((piece[:accepted], "green"), (piece[accepted:], None)):
                    console.print(part, end="", style=style, markup=False, soft_wrap=True)
    console.print()
    console.print(_footer(usage), style="dim")
    return text


async def _model(session: aiohttp.ClientSession) -> str:
    async with session.get("/v1/models") as response:
        return str((await response.json())["data"][0]["id"])


def _footer(usage: dict[str, Any]) -> str:
    spec = usage.get("speculative") or {}
    drafted, accepted = spec.get("drafted_tokens", 0), spec.get("accepted_tokens", 0)
    if not drafted:
        return f"{usage.get('completion_tokens', 0)} tokens, none drafted"
    return f"{usage['completion_tokens']} tokens; {accepted} of {drafted} drafted accepted (green), τ {spec['tau']:.2f}"


def _ask(console: Console) -> str:
    try:
        return console.input("[bold]you:[/] ").strip()
    except EOFError:
        return ""
