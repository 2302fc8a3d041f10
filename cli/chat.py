"""`outrider chat`: prints answers as they stream, with accepted drafts in colour."""

import asyncio
from contextlib import aclosing
from typing import Any

from rich.console import Console

from cli.command.errors import CommandError
from cli.gateway_client import GatewayClient


def run_chat(url: str, api_key: str, prompt: str, max_tokens: int, temperature: float) -> None:
    """Answer `prompt`, or hold a conversation until an empty line or Ctrl-D. Raises CommandError."""
    console = Console(highlight=False)
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    messages: list[dict[str, str]] = []
    # No event loop runs while the user types, so that Ctrl-C ends the command at that point, too.
    while question := prompt or _ask(console):
        messages.append({"role": "user", "content": question})
        messages.append(
            {"role": "assistant", "content": asyncio.run(turn(url, api_key, sampling, messages, console))}
        )
        if prompt:
            return


async def turn(
    url: str, api_key: str, sampling: dict[str, Any], messages: list[dict[str, str]], console: Console
) -> str:
    """Print and return the answer to a conversation. Raises CommandError."""
    async with GatewayClient(url, api_key) as client:
        return await answer(
            client, {"model": await _model(client), **sampling, "messages": messages}, console
        )


async def answer(client: GatewayClient, body: dict[str, Any], console: Console) -> str:
    """Print an answer as it streams, then a line of token counts. Returns the text. Raises CommandError."""
    body = {**body, "stream": True, "stream_options": {"include_usage": True}, "outrider": {"spans": True}}
    text, reason = "", ""
    usage: dict[str, Any] = {}
    async with aclosing(client.events("/v1/chat/completions", body)) as events:
        async for event in events:
            usage = event.get("usage") or usage
            accepted = (event.get("outrider") or {}).get("accepted_chars", 0)
            for choice in event.get("choices") or []:
                piece = (choice.get("delta") or {}).get("content") or ""
                reason = choice.get("finish_reason") or reason
                text += piece
                for part, style in ((piece[:accepted], "green"), (piece[accepted:], None)):
                    console.print(part, end="", style=style, markup=False, soft_wrap=True)
    console.print()
    console.print(footer(usage, reason), style="dim")
    return text


async def _model(client: GatewayClient) -> str:
    """Name of the first model that the gateway serves."""
    listed = await client.call("GET", "/v1/models")
    try:
        return str(listed["data"][0]["id"])
    except (KeyError, IndexError, TypeError):
        raise client.foreign("/v1/models lists no model") from None


def footer(usage: dict[str, Any], reason: str) -> str:
    """Line of token counts: total, and drafted and accepted ones of the device and of the core.

    reason: OpenAI's finish_reason; "length" adds a note.
    """
    spec = usage.get("speculative") or {}
    drafted, fused = spec.get("drafted_tokens", 0), spec.get("fused_drafted_tokens", 0)
    parts = [f"{usage.get('completion_tokens', 0)} tokens{'' if drafted or fused else ', none drafted'}"]
    if drafted:
        accepted = spec.get("accepted_tokens", 0)
        parts.append(f"{accepted} of {drafted} drafted accepted (green), τ {spec.get('tau', 0):.2f}")
    if fused:
        parts.append(f"{spec.get('fused_accepted_tokens', 0)} of {fused} drafted by the core accepted")
    if reason == "length":
        parts.append("cut off by --max-tokens")
    return "; ".join(parts)


def _ask(console: Console) -> str:
    try:
        question = console.input("[bold]you:[/] ").strip()
        question.encode("utf-8")  # undecodable bytes became surrogates, which cannot be sent
    except EOFError:
        return ""
    except UnicodeError:
        raise CommandError("the input is not valid UTF-8") from None
    return question
