"""Client of the gateway's admin endpoints."""

from types import TracebackType
from typing import Any, Final

from cli.gateway_client import GatewayClient

STATUS_FIELDS: Final = frozenset({"policy", "sessions", "totals", "verifiers", "devices"})


class Admin:
    """Client of one gateway. Use as `async with Admin(url, key) as admin`.

    Every method raises CommandError with the gateway's message when the call fails.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self._client = GatewayClient(url, api_key)

    async def __aenter__(self) -> "Admin":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def policy(self) -> dict[str, Any]:
        """The current policy and its parameters."""
        return await self._client.call("GET", "/admin/policy")

    async def set_policy(
        self,
        name: str,
        k: int = 0,
        verifier_threads: int = 0,
        draft_threads: int = 0,
        window: str = "",
        bandwidth: str = "",
    ) -> None:
        """Change the policy from each session's next round on.

        k: 0 = the policy's own; threads: 0 = unchanged. window: controller of draft lengths, "none" = the policy, "" =
        unchanged. bandwidth: how radio cells are shared, "policy" = as the policy says, "" =
        unchanged.
        """
        body = {
            "policy": name,
            "k": k,
            "verifier_threads": verifier_threads,
            "draft_threads": draft_threads,
            "window": window,
            "bandwidth": bandwidth,
        }
        await self._client.call("POST", "/admin/policy", body)

    async def status(self) -> dict[str, Any]:
        """Policy, devices, verifiers, number of sessions and token totals."""
        answer = await self._client.call("GET", "/admin/status")
        if missing := STATUS_FIELDS - answer.keys():
            raise self._client.foreign(f"/admin/status lacks {', '.join(sorted(missing))}")
        return answer
