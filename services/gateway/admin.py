"""/admin: reads and changes the policy, and lists live processes, for `outrider policy` and `outrider status`."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.body import read_body
from services.gateway.deployment import DeploymentView
from services.gateway.errors import ApiError, bad_request
from services.gateway.keys import AdminKeys
from services.gateway.openai_schema import parse
from services.gateway.sessions import GatewaySessions
from services.gateway.trust import Sender
from shared.broker.contract import Broker
from shared.planning.bandwidth_rules import RULES
from shared.planning.policies import POLICY_NAMES
from shared.planning.windows import NO_WINDOW, WINDOW_NAMES
from shared.protocol.keys import Keys
from shared.protocol.limits import MAX_DRAFT
from shared.protocol.messages import Control, Role

APPLIED_S: Final = 1.0  # how long to wait for a change to take effect
THREADS: Final = Field(ge=0, le=1024)
WINDOWS: Final = (NO_WINDOW, *WINDOW_NAMES)


class PolicyChange(BaseModel):
    """Body of POST /admin/policy. A field that is 0 or empty is left unchanged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: str = ""
    k: Annotated[int, Field(ge=0, le=MAX_DRAFT)] = 0
    verifier_threads: Annotated[int, THREADS] = 0
    draft_threads: Annotated[int, THREADS] = 0
    window: str = ""
    bandwidth: str = ""


class Admin:
    """The admin handlers. They raise ApiError; the application's middleware maps BrokerAway."""

    def __init__(
        self,
        broker: Broker,
        keys: Keys,
        admin_keys: AdminKeys,
        sessions: GatewaySessions,
        deployment: DeploymentView,
    ) -> None:
        self._broker = broker
        self._keys = keys
        self._admin_keys = admin_keys
        self._sessions = sessions
        self._deployment = deployment

    def routes(self) -> list[web.RouteDef]:
        """Routes to add to the application."""
        return [
            web.get("/admin/policy", self._get_policy),
            web.post("/admin/policy", self._set_policy),
            web.get("/admin/status", self._status),
        ]

    async def _get_policy(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response(await self._policy())

    async def _set_policy(self, request: web.Request) -> web.Response:
        """Change the policy. 200 once the scheduler has applied it, 202 if it has not yet."""
        self._check(request)
        if (
            request.content_type != "application/json"
        ):  # a foreign web page cannot send it without a preflight
            raise ApiError(415, "Content-Type must be application/json.")
        change = parse(PolicyChange, await read_body(request))
        if change.policy and change.policy not in POLICY_NAMES:
            known = ", ".join(POLICY_NAMES)
            raise bad_request(
                f"{change.policy!r}: no such policy; known are {known}", "policy", "invalid_value"
            )
        if change.window and change.window not in WINDOWS:
            known = ", ".join(WINDOWS)
            raise bad_request(
                f"{change.window!r}: no such window controller; known are {known}", "window", "invalid_value"
            )
        if change.bandwidth and change.bandwidth not in RULES:
            known = ", ".join(RULES)
            raise bad_request(
                f"{change.bandwidth!r}: no such sharing of radio cells; known are {known}",
                "bandwidth",
                "invalid_value",
            )
        control = Control(**change.model_dump())
        await self._broker.streams.push(self._keys.submit, control)
        applied = await self._wait_for(lambda fields: _shows(fields, change))
        return web.json_response({**await self._policy(), "applied": applied}, status=200 if applied else 202)

    async def _status(self, request: web.Request) -> web.Response:
        self._check(request)
        current = self._deployment.current
        return web.json_response(
            {
                "gateway": self._sessions.address,
                "deployment": asdict(current) if current else None,
                "objection": self._sessions.not_ready_reason() or self._deployment.not_ready_reason,
                "policy": await self._policy(),
                "sessions": len(await self._broker.sessions.live()),
                "sessions_here": len(self._sessions),
                "totals": dict(self._sessions.totals),
                "gateways": await self._alive("gateway"),
                "schedulers": await self._alive("scheduler"),
                "verifiers": await self._alive("verifier"),
                "devices": await self._alive("draft_worker"),
                "shares": _shares(await self._broker.records.get(self._keys.shares)),
            }
        )

    def _check(self, request: web.Request) -> None:
        hosts = [*request.headers.getall("Host", [""]), request.host]
        sender = Sender(request.remote or "", hosts, request.headers)
        self._admin_keys.check(request.headers.get("Authorization", ""), sender)

    async def _alive(self, role: Role) -> list[dict[str, Any]]:
        heartbeats = await self._broker.presence.alive(role)
        return [asdict(heartbeat) for heartbeat in sorted(heartbeats, key=lambda beat: beat.name)]

    async def _policy(self) -> dict[str, Any]:
        """The policy as the scheduler stores it, numbers as integers. Empty before the first scheduler has started."""
        fields = await self._broker.records.get(self._keys.policy)
        policy: dict[str, Any] = {
            "policy": "",
            "k": 0,
            "window": "",
            "bandwidth": "",
            "verifier_threads": 0,
            "draft_threads": 0,
        }
        return policy | {name: int(text) if text.isdigit() else text for name, text in fields.items()}

    async def _wait_for(self, shows: Callable[[Mapping[str, str]], bool]) -> bool:
        loop = asyncio.get_running_loop()
        end = loop.time() + APPLIED_S
        while not shows(await self._broker.records.get(self._keys.policy)):
            if loop.time() > end:
                return False
            await asyncio.sleep(0.02)
        return True


def _shares(fields: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Shares of radio cells by device, and how often each was exceeded. What is not understood is left out."""
    split = {device: text.split() for device, text in fields.items()}
    return {
        device: {"bits_s": int(numbers[0]), "exceeded": int(numbers[1])}
        for device, numbers in split.items()
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers)
    }


def _shows(fields: Mapping[str, str], change: PolicyChange) -> bool:
    """Whether the scheduler's record contains the change. A policy without a draft length has k = 0."""
    expected = (
        ("policy", {change.policy} if change.policy else None),
        ("k", {str(change.k), "0"} if change.k else None),
        ("window", {change.window} if change.window else None),
        ("bandwidth", {change.bandwidth} if change.bandwidth else None),
        ("verifier_threads", {str(change.verifier_threads)} if change.verifier_threads else None),
        ("draft_threads", {str(change.draft_threads)} if change.draft_threads else None),
    )
    return all(values is None or fields.get(name) in values for name, values in expected)
