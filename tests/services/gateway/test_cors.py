"""CORS: only web pages of listed origins may use the API."""

from pathlib import Path
from typing import Any

import pytest

from services.gateway.cors import read_origins
from shared.runtime.settings import SettingsError
from tests.services.gateway.stack import MODEL, Stack, running_stack

PAGE = "https://app.example.org"
OTHER = "https://evil.example"


@pytest.mark.parametrize(
    "listed",
    [
        "*",
        "app.example.org",
        "https://app.example.org/",
        "https://a.org/path",
        "ftp://a.org",
        "null",
        "https://*.a.org",
    ],
)
def test_what_is_no_origin_is_named(listed: str) -> None:
    with pytest.raises(SettingsError, match="OUTRIDER_CORS_ORIGINS"):
        read_origins(f"{PAGE}, {listed}")


def test_origins_are_compared_whole() -> None:
    cors = read_origins(f" {PAGE} ,http://localhost:3000, http://[::1]:3000,")
    assert all(map(cors.allows, (PAGE, "http://localhost:3000", "http://[::1]:3000")))
    assert not any(
        map(cors.allows, ("", OTHER, f"{PAGE}.evil.example", "http://app.example.org", "http://localhost"))
    )
    assert not read_origins("").allows("")


async def preflight(
    stack: Stack, origin: str, path: str = "/v1/chat/completions"
) -> tuple[int, dict[str, str]]:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
    }
    async with stack.client.options(path, headers=headers) as response:
        shown = {name: text for name, text in response.headers.items() if name.startswith("Access-Control")}
        return response.status, shown


async def complete(stack: Stack, origin: str, **fields: Any) -> tuple[int, str, str]:
    """Status, who may read the answer, the answer."""
    body = {"model": MODEL, "prompt": "say it", "max_tokens": 4} | fields
    async with stack.client.post("/v1/completions", json=body, headers={"Origin": origin}) as response:
        return response.status, response.headers.get("Access-Control-Allow-Origin", ""), await response.text()


async def test_no_page_may_unless_it_is_listed() -> None:
    async with running_stack() as stack:
        assert await preflight(stack, PAGE) == (405, {})
        status, reader, text = await complete(stack, PAGE)
        assert (status, reader) == (403, "")
        assert "OUTRIDER_CORS_ORIGINS" in text
        async with stack.client.get("/v1/models", headers={"Origin": "null"}) as response:
            assert response.status == 403
        assert stack.core.submits == []
        assert (await stack.complete())[0] == 200  # no page at all


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_listed_page_may(streaming: bool) -> None:
    async with running_stack(cors_origins=PAGE) as stack:
        status, shown = await preflight(stack, PAGE)
        assert (status, shown["Access-Control-Allow-Origin"]) == (204, PAGE)
        assert shown["Access-Control-Allow-Headers"] == "authorization, content-type, x-stainless-os"
        assert "POST" in shown["Access-Control-Allow-Methods"]
        assert (await complete(stack, PAGE, stream=streaming))[:2] == (200, PAGE)
        assert (await complete(stack, PAGE, prompt=""))[:2] == (400, PAGE)  # pages may read why
        assert await preflight(stack, OTHER) == (405, {})
        assert (await complete(stack, OTHER))[:2] == (403, "")
        assert await preflight(stack, PAGE, "/admin/policy") == (405, {})
        async with stack.client.get("/admin/status", headers={"Origin": PAGE}) as response:
            assert (response.status, "Access-Control-Allow-Origin" in response.headers) == (403, False)


async def test_with_keys_a_page_needs_one_and_none_of_another_origin_reads_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("secret\n")
    async with running_stack(cors_origins=PAGE, api_keys_file=str(path)) as stack:
        assert (await preflight(stack, PAGE))[0] == 204
        assert (await complete(stack, PAGE))[:2] == (401, PAGE)
        stack.client.headers["Authorization"] = "Bearer secret"
        assert (await complete(stack, PAGE))[:2] == (200, PAGE)
        assert (await complete(stack, OTHER))[:2] == (200, "")
