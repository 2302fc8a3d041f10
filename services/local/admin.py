"""Client of the gateway's admin endpoints."""

from typing import Any

import aiohttp

from services.local.errors import CommandError


class Admin:
    """Use as `async with Admin(url, key) as admin`. Raises CommandError with the gateway's own words."""

    def __init__(self, url: str, api_key: str = "") -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._url = url.rstrip("/")
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10))

    async def __aenter__(self) -> "Admin":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def policy(self) -> dict[str, Any]:
        """The policy in force."""
        return await self._call("GET", "/admin/policy")

    async def set_policy(
        self, name: str, k: int = 0, verifier_threads: int = 0, draft_threads: int = 0
    ) -> None:
        """Change it from each session's next round on; 0 leaves a figure as it is."""
        body = {"policy": name, "k": k, "verifier_threads": verifier_threads, "draft_threads": draft_threads}
        await self._call("POST", "/admin/policy", body)

    async def status(self) -> dict[str, Any]:
        """Devices, verifiers, sessions, policy."""
        return await self._call("GET", "/admin/status")

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        async with self._session.request(method, self._url + path, json=body) as response:
            answer: dict[str, Any] = await response.json(content_type=None)
            if response.status >= 300:
                raise CommandError(
                    answer.get("error", {}).get("message", f"HTTP {response.status} from {path}")
                )
            return answer
