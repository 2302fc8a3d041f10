"""The HTTP application: routes, handlers and the middleware around them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from aiohttp import web

from services.gateway.admin import Admin
from services.gateway.admission import Admission, Job
from services.gateway.body import read_body
from services.gateway.chat import ChatForm
from services.gateway.completions import CompletionForm
from services.gateway.cors import Cors
from services.gateway.deployment import Deployment, DeploymentView
from services.gateway.errors import ApiError, unavailable
from services.gateway.in_flight import InFlight
from services.gateway.keys import ApiKeys, Budget
from services.gateway.metrics import Metrics
from services.gateway.openai_schema import ChatRequest, CompletionRequest
from services.gateway.respond import REQUEST_ID, Envelope, Form, Responder, StreamTimeouts
from services.gateway.sessions import GatewaySessions, Unavailable
from shared.broker.contract import BrokerAway, BrokerFull

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_BEGAN_AT: Final = web.RequestKey("began_at", float)
_CORS_PREFIX: Final = "/v1/"  # paths that web pages of the listed origins may use
_CODES: Final = {404: "unknown_url", 405: "method_not_allowed"}
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Api:
    """The handlers and what they need. `wall_clock` gives OpenAI's `created`."""

    name: str  # the model's name for clients
    admission: Admission
    sessions: GatewaySessions
    deployment: DeploymentView
    api_keys: ApiKeys
    admin: Admin
    metrics: Metrics
    wall_clock: Callable[[], datetime]
    max_body_bytes: int
    in_flight: InFlight
    timeouts: StreamTimeouts
    cors: Cors

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=self.max_body_bytes, middlewares=[self._middleware])
        app.on_response_prepare.append(self._close_while_draining)
        app.on_response_prepare.append(self._add_cors_headers)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/v1/models", self._models),
                web.get("/v1/models/{id:.+}", self._model),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat),
                *self.admin.routes(),
            ]
        )
        return app

    def not_ready_reason(self) -> str | None:
        """Why no request can be served now; None when one can."""
        return self.sessions.not_ready_reason() or self.deployment.not_ready_reason

    def draining_reason(self) -> str | None:
        """Why load balancers should send no request here. Requests are served even so while the gateway drains."""
        return "this gateway is shutting down" if self.in_flight.draining else self.not_ready_reason()

    # --- handlers -----------------------------------------------------------------------------------
    async def _health(self, _: web.Request) -> web.Response:
        not_ready_reason = self.draining_reason()
        return web.json_response(
            {"status": not_ready_reason or "ok"}, status=503 if not_ready_reason else 200
        )

    async def _models(self, request: web.Request) -> web.Response:
        self._budget(request)
        return web.json_response({"object": "list", "data": [self._model_card()]})

    async def _model(self, request: web.Request) -> web.Response:
        self._budget(request)
        self._check_model(request.match_info["id"])
        return web.json_response(self._model_card())

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        with self._budget(request).reserve(request[_BEGAN_AT]) as reservation:
            body = await self.admission.intake.parse(CompletionRequest, await read_body(request))
            deployment = self._ready_deployment(body.model)
            reservation.grow(len(body.prompt))
            job = await self.admission.completion(body, deployment)
            form = CompletionForm(self.admission.tokenizer, job.logprobs)
            return await self._run(request, job, form, deployment)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        with self._budget(request).reserve(request[_BEGAN_AT]):
            body = await self.admission.intake.parse(ChatRequest, await read_body(request))
            deployment = self._ready_deployment(body.model)
            job = await self.admission.chat(body, deployment)
            form = ChatForm(self.admission.tokenizer, job.logprobs)
            return await self._run(request, job, form, deployment)

    async def _run(
        self, request: web.Request, job: Job, form: Form, deployment: Deployment
    ) -> web.StreamResponse:
        """Open the job's sessions and respond from their events. The sessions are closed in any case."""
        envelope = Envelope(
            id=f"{form.prefix}-{self.admission.ids.token(24)}",
            created=int(self.wall_clock().timestamp()),
            model=job.model,
            fingerprint=f"fp_{deployment.vocabulary[:12]}",
        )
        responder = Responder(job, form, envelope, self.admission.tokenizer, request[_BEGAN_AT])
        events = await self.sessions.open(*job.session_requests)
        try:
            log.info(
                "request",
                request=request[REQUEST_ID],
                id=envelope.id,
                sessions=[session.spec.session for session in events.members],
                prompt_tokens=job.prompt_tokens,
            )
            if job.stream:
                return await responder.stream(request, events, self.timeouts)
            return await responder.whole(events, self.admission.intake)
        finally:
            events.close()
            self.metrics.count(responder.usage, responder.timer)

    # --- middleware ---------------------------------------------------------------------------------
    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request an id, count it, and turn every error into OpenAI's format."""
        given = request.headers.get("X-Request-Id", "")
        request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else self.admission.ids.token(24)
        request[_BEGAN_AT] = asyncio.get_running_loop().time()
        endpoint = request.match_info.route.resource
        status = 499  # the client disconnected
        try:
            with self.in_flight.track():
                response = await self._respond(request, handler)
            status = response.status
        finally:
            name = endpoint.canonical if endpoint is not None else "unknown"
            self.metrics.requests.labels(name, str(status)).inc()
        if not response.prepared:
            response.headers["X-Request-Id"] = request[REQUEST_ID]
        return response

    async def _close_while_draining(self, _: web.Request, response: web.StreamResponse) -> None:
        if self.in_flight.draining:
            response.force_close()
            response.headers["Connection"] = "close"

    async def _add_cors_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        if request.path.startswith(_CORS_PREFIX):
            response.headers.update(self.cors.headers(request.headers.get("Origin", "")))

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path.startswith(_CORS_PREFIX):
                preflight = self.cors.preflight(request.method, request.headers)
                if preflight is not None:
                    return web.Response(status=204, headers=preflight)
            return await handler(request)
        except ConnectionResetError:  # the client disconnected; nobody reads the response
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=499)
        except Exception as error:
            answer = self._api_error(error, request)
            if answer.status == 500:
                log.exception("request failed", request=request[REQUEST_ID], path=request.path)
            return web.Response(
                body=answer.payload(),
                status=answer.status,
                content_type="application/json",
                headers=answer.headers,
            )

    def _api_error(self, error: Exception, request: web.Request) -> ApiError:
        match error:
            case ApiError():
                return error
            case Unavailable():
                return unavailable(str(error), error.retry_after_s)
            case BrokerAway() | BrokerFull():
                return unavailable(f"the broker is {'away' if isinstance(error, BrokerAway) else 'full'}")
            case web.HTTPRequestEntityTooLarge():
                message = f"The body is larger than {self.max_body_bytes} bytes."
                return ApiError(413, message, code="request_too_large")
            case web.HTTPException():
                message = f"{request.method} {request.path}: {error.reason}"[:300]
                return ApiError(error.status, message, code=_CODES.get(error.status, "bad_request"))
            case _:
                return ApiError(500, "The server had an error while processing the request.")

    def _budget(self, request: web.Request) -> Budget:
        origin = request.headers.get("Origin", "")
        if (
            origin and self.api_keys.open and not self.cors.allows(origin)
        ):  # no key identifies the page's user
            message = f"Web pages of {origin[:200]} may not use this server (see OUTRIDER_CORS_ORIGINS)."
            raise ApiError(403, message, code="origin_not_allowed")
        return self.api_keys.budget(request.headers.get("Authorization", ""))

    def _ready_deployment(self, model: str) -> Deployment:
        self._check_model(model)
        if (not_ready_reason := self.not_ready_reason()) is not None or self.deployment.current is None:
            raise unavailable(not_ready_reason or "no core has announced a model yet")
        return self.deployment.current

    def _check_model(self, model: str) -> None:
        if model != self.name:
            raise ApiError(404, f"The model `{model}` does not exist.", "model", "model_not_found")

    def _model_card(self) -> dict[str, Any]:
        current = self.deployment.current
        limit = (
            min(self.admission.context_limit, current.context) if current else self.admission.context_limit
        )
        return {
            "id": self.name,
            "object": "model",
            "created": 0,
            "owned_by": "outrider",
            "max_model_len": limit,
        }


def malformed(status: int, message: str) -> web.Response:
    """The response to input that is not valid HTTP, which no handler sees."""
    error = ApiError(status, message, code="malformed_request")
    return web.Response(body=error.payload(), status=status, content_type="application/json")
