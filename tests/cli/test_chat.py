"""`outrider chat` prints the stream, marks accepted drafts, and reports why an answer ended."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.admin import Admin
from cli.chat import answer, footer, turn
from cli.command.errors import CommandError
from cli.gateway_client import GatewayClient
from cli.status import run_status
from tests.cli.test_gateway_client import serving, streaming
from tests.services.gateway.stack import running_stack

USAGE = {"completion_tokens": 4, "speculative": {"drafted_tokens": 3, "accepted_tokens": 2, "tau": 2.0}}


def chunk(text: str, accepted: int = 0, **more: Any) -> bytes:
    event = {"choices": [{"delta": {"content": text}, **more}], "outrider": {"accepted_chars": accepted}}
    return f"data: {json.dumps(event)}\n\n".encode()


async def test_an_answer_is_printed_as_it_comes_with_accepted_drafts_in_green() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", highlight=False)
    end = b'data: {"choices": null, "usage": %s}\n\ndata: [DONE]\n\n' % json.dumps(USAGE).encode()
    chunks = (chunk("[b]Hi "), chunk("there", 3), end)
    async with serving(streaming(*chunks)) as url, GatewayClient(url) as client:
        assert await answer(client, {}, console) == "[b]Hi there"
    assert "\x1b[32mthe\x1b[0mre" in out.getvalue()
    assert "4 tokens; 2 of 3 drafted accepted" in out.getvalue()


@pytest.mark.parametrize(
    ("usage", "reason", "text"),
    [
        (USAGE, "stop", "4 tokens; 2 of 3 drafted accepted (green), τ 2.00"),
        ({"completion_tokens": 4}, "stop", "4 tokens, none drafted"),
        (
            {"completion_tokens": 4, "speculative": {"fused_drafted_tokens": 5, "fused_accepted_tokens": 1}},
            "length",
            "4 tokens; 1 of 5 drafted by the core accepted; cut off by --max-tokens",
        ),
        (
            {"completion_tokens": 4},
            "length",
            "4 tokens, none drafted; cut off by --max-tokens",
        ),
        ({}, "", "0 tokens, none drafted"),
    ],
)
def test_the_footer(usage: dict[str, Any], reason: str, text: str) -> None:
    assert footer(usage, reason) == text


async def test_a_real_gateway_with_keys_answers_whoever_gives_one(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-1\n")
    question = [{"role": "user", "content": "say it"}]
    console = Console(file=io.StringIO())
    async with running_stack(api_keys_file=str(keys), admin_keys_file=str(keys)) as stack:
        for url in (stack.url, f"{stack.url}/v1"):  # as `up` prints it
            said = await turn(url, "sk-1", {"max_tokens": 100}, question, console)
            assert said == "hello world, hello there"
            for key, words in (
                ("", "give --api-key KEY or set OUTRIDER_API_KEY"),
                ("no", "does not accept the key"),
            ):
                with pytest.raises(CommandError, match=words):
                    await turn(url, key, {}, question, console)
                with pytest.raises(CommandError, match=words):
                    await run_status(url, key, once=True)
                async with Admin(url, key) as admin:
                    with pytest.raises(CommandError, match=words):
                        await admin.policy()
