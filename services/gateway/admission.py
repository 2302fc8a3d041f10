"""Turns a parsed request into session requests, checked against the served model's limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.gateway.bounds import chat_cost
from services.gateway.chat_template import TemplateRefused
from services.gateway.deployment import Deployment
from services.gateway.errors import bad_request
from services.gateway.intake import Intake
from services.gateway.openai_schema import ChatRequest, CompletionRequest
from services.gateway.session import SessionRequest
from services.gateway.tokenizer import TargetTokenizer
from shared.runtime.ids import Ids
from shared.speculative.params import SamplingParams

COMPLETION_TOKENS: Final = 16  # OpenAI's default for /v1/completions


@dataclass(frozen=True, slots=True)
class Job:
    """A request that is ready to run: one session request per choice."""

    model: str
    session_requests: tuple[SessionRequest, ...]
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool  # send a last chunk with usage only
    usage_always: bool  # send usage in every chunk
    spans: bool  # send token ids, and which of them are accepted drafts

    @property
    def logprobs(self) -> int:
        """Number of likeliest tokens requested, equal for all choices; -1 = no logprobs."""
        return self.session_requests[0].logprobs

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of all choices together."""
        return sum(len(request.prompt) for request in self.session_requests)


@dataclass(frozen=True, slots=True)
class Admission:
    """Checks requests. context_limit: the gateway's limit in tokens; the core's may be lower."""

    tokenizer: TargetTokenizer
    intake: Intake
    ids: Ids
    context_limit: int

    async def completion(self, request: CompletionRequest, deployment: Deployment) -> Job:
        """Raises ApiError: 400 that names the field, or 503."""
        texts = [prompt for prompt in request.prompt if isinstance(prompt, str)]
        for text in texts:
            self.intake.bounds.check_prompt(text)
        cost = sum(map(len, texts))
        prompts = await self.intake.run(cost, lambda: [self._prompt_ids(prompt) for prompt in request.prompt])
        top = -1 if request.logprobs is None else request.logprobs
        return self._job(request, deployment, prompts, top, COMPLETION_TOKENS)

    async def chat(self, request: ChatRequest, deployment: Deployment) -> Job:
        """Raises ApiError: 400 that names the field, or 503."""
        if request.top_logprobs and not request.logprobs:
            raise bad_request("top_logprobs needs logprobs to be true", "top_logprobs", "invalid_value")
        self.intake.bounds.check_chat(request.messages)
        messages = [message.plain() for message in request.messages]
        try:
            ids = await self.intake.run(
                chat_cost(request.messages), lambda: self.tokenizer.encode_chat(messages)
            )
        except TemplateRefused as error:
            raise bad_request(str(error), "messages", "invalid_value") from error
        top = (request.top_logprobs or 0) if request.logprobs else -1
        return self._job(request, deployment, [ids], top, None)

    def _prompt_ids(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, list):
            return prompt
        return self.tokenizer.encode(prompt) if prompt else []

    def _job(
        self,
        request: CompletionRequest | ChatRequest,
        deployment: Deployment,
        prompts: Sequence[list[int]],
        logprobs: int,
        default_tokens: int | None,
    ) -> Job:
        field = "prompt" if isinstance(request, CompletionRequest) else "messages"
        limit = min(self.context_limit, deployment.context)
        session_requests = []
        for prompt in prompts:
            _check_prompt(prompt, deployment.vocab, limit, field)
            session_requests.append(
                SessionRequest(
                    prompt=tuple(prompt),
                    sampling=self._sampling(request, deployment.vocab),
                    max_tokens=_max_tokens(request, limit - len(prompt), default_tokens),
                    stop_ids=() if request.ignore_eos else self.tokenizer.stop_ids,
                    logprobs=logprobs,
                    device=(request.outrider.device or "") if request.outrider else "",
                )
            )
        options = request.stream_options
        return Job(
            model=request.model,
            session_requests=tuple(session_requests),
            stops=tuple(request.stop),
            stream=bool(request.stream),
            include_usage=bool(options and options.include_usage),
            usage_always=bool(options and options.continuous_usage_stats),
            spans=bool(request.outrider and request.outrider.spans),
        )

    def _sampling(self, request: CompletionRequest | ChatRequest, vocab: int) -> SamplingParams:
        """Sampling parameters with OpenAI's defaults. Without a seed each choice draws 53 bits, exact in JSON."""
        seed = self.ids.bits(53) if request.seed is None else request.seed % (1 << 64)
        return SamplingParams(
            seed=seed,
            vocab=vocab,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_k=max(request.top_k or 0, 0),
            top_p=1.0 if request.top_p is None else request.top_p,
        )


def _check_prompt(prompt: Sequence[int], vocab: int, limit: int, field: str) -> None:
    if not prompt:
        raise bad_request("The prompt is empty.", field, "empty_prompt")
    if len(prompt) >= limit:
        message = f"The prompt has {len(prompt)} tokens; with at least one more the context is {limit}."
        raise bad_request(message, field, "context_length_exceeded")
    if min(prompt) < 0 or max(prompt) >= vocab:
        wrong = next(token for token in prompt if not 0 <= token < vocab)
        raise bad_request(f"Token id {wrong} is not in the vocabulary of {vocab}.", field, "invalid_token")


def _max_tokens(request: CompletionRequest | ChatRequest, left: int, default: int | None) -> int:
    """max_tokens as requested, or the endpoint's default. left: context tokens that the prompt leaves free."""
    requested, name = request.max_completion_tokens, "max_completion_tokens"
    if requested is None:
        requested, name = request.max_tokens, "max_tokens"
    if requested is None:
        return left if default is None else min(default, left)
    if requested > left:
        message = f"{name} is {requested}, but the prompt leaves {left} tokens of context."
        raise bad_request(message, name, "context_length_exceeded")
    return requested
