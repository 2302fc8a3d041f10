"""Client of the gateway's admin endpoints."""

from types import TracebackType
from typing import Any, Final

from cli.gateway_client import GatewayClient

STATUS: Final = frozenset({"policy", "sessions", "totals", "verifiers", "devices"})


class Admin:
    """Use as `async with Admin(url, key) as admin`. Raises CommandError with the gateway's own words."""

    def __init__(self, url: str, api_key: str = "") -> None:
        self._client = GatewayClient(url, api_key)

    async def __aenter__(self) -> "Admin":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def policy(self) -> dict[str, Any]:
        """The policy in force."""
        return await self._client.call("GET", "/admin/policy")

    async def set_policy(
        self, name: str, k: int = 0, verifier_threads: int = 0, draft_threads: int = 0
    ) -> None:
        """Change it from each session's next round on; 0 leaves a figure as it is."""
        body = {"policy": name, "k": k, "verifier_threads": verifier_threads, "draft_threads": draft_threads}
        await self._client.call("POST", "/admin/policy", body)

    async def status(self) -> dict[str, Any]:
        """Devices, verifiers, sessions, policy."""
        answer = await self._client.call("GET", "/admin/status")
        if missing := STATUS - answer.keys():
            raise self._client.foreign(f"/admin/status lacks {', '.join(sorted(missing))}")
        return answer
