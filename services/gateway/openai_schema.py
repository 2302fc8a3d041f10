"""Schema of requests: all OpenAI fields, and extensions that common load generators send.

Fields that this server does not implement are accepted with neutral values only; an error names the field. Unknown
fields are refused too, so that a typing error does not change a result silently. A null field, known or not, counts
as absent, because clients write out every field they have.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.gateway.errors import ApiError, bad_request
from shared.protocol import limits

MAX_STOPS = 16
MAX_STOP_CHARS = 1024


def only(*neutral: Any) -> AfterValidator:
    """Accept null and these neutral values; refuse any other."""

    def check(value: Any) -> Any:
        if value is None or any(_same(value, known) for known in neutral):
            return value
        allowed = " or ".join(["null", *(json.dumps(known) for known in neutral)])
        raise PydanticCustomError("unsupported", "not supported; {allowed} is accepted", {"allowed": allowed})

    return AfterValidator(check)


def _same(value: Any, known: Any) -> bool:
    """Whether two values are equal, without taking True for 1."""
    return isinstance(value, bool) == isinstance(known, bool) and bool(value == known)


def _one_or_many(value: Any) -> Any:
    return [] if value is None else [value] if isinstance(value, str) else value


def _prompts(value: Any) -> Any:
    """Normalise `prompt` to a list of prompts. One prompt is a text or a list of token ids."""
    prompts = [value] if _is_prompt(value) else value
    if not isinstance(prompts, list) or not all(_is_prompt(item) for item in prompts):
        raise PydanticCustomError("prompt", "a string, a list of strings, token ids, or lists of token ids")
    return prompts


def _is_prompt(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(type(item) is int for item in value))


def _parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Prompt = str | list[int]  # a text, or the target's token ids
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)]
Count = Annotated[int, Field(ge=1, le=limits.MAX_POSITION)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stops = Annotated[list[Stop], FailFast(), BeforeValidator(_one_or_many), Field(max_length=MAX_STOPS)]
Label = Annotated[str, Field(max_length=512)]  # for the client's own use; accepted and ignored
Zero = Annotated[Any, only(0)]
One = Annotated[Any, only(1)]
Off = Annotated[Any, only(False)]
On = Annotated[Any, only(True)]
Absent = Annotated[Any, only()]
Nothing = Annotated[Any, only({}, [])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: inner for name, inner in value.items() if inner is not None}


class StreamOptions(_Strict):
    """Options for a stream's usage chunks."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: Off = None


class OutriderFields(_Strict):
    """Outrider's extension. device: the only device that may draft; spans: report token ids and accepted drafts."""

    device: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] | None = None
    spans: bool | None = None


class _Request(_Strict):
    """Fields that both endpoints share."""

    model: Label
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=limits.MAX_TOKEN_ID)] | None = None
    seed: Seed | None = None
    stop: Stops = []
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    outrider: OutriderFields | None = None

    # Of OpenAI, not implemented.
    n: One = None
    frequency_penalty: Zero = None
    presence_penalty: Zero = None
    logit_bias: Nothing = None

    # Of vLLM, SGLang and their load generators, not implemented.
    best_of: One = None
    min_p: Zero = None
    min_tokens: Zero = None
    repetition_penalty: One = None
    length_penalty: One = None
    use_beam_search: Off = None
    stop_token_ids: Nothing = None
    include_stop_str_in_output: Off = None
    skip_special_tokens: On = None
    spaces_between_special_tokens: On = None
    prompt_logprobs: Absent = None


class CompletionRequest(_Request):
    """Body of /v1/completions."""

    prompt: Annotated[list[Prompt], PlainValidator(_prompts)]
    logprobs: Annotated[int, Field(ge=0, le=limits.MAX_TOP_LOGPROBS)] | None = None
    echo: Off = None
    suffix: Annotated[Any, only("")] = None


class TextPart(_Strict):
    """One part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    """One message of a chat. Tools and tool messages are not implemented.

    An answer as the `openai` client dumps it (`message.model_dump()`) is accepted.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[TextPart], FailFast(), BeforeValidator(_parts)]
    name: Label | None = None
    refusal: Annotated[Any, only("")] = None
    annotations: Nothing = None
    audio: Absent = None
    tool_calls: Nothing = None
    function_call: Absent = None

    @model_validator(mode="before")
    @classmethod
    def _empty_answer(cls, value: Any) -> Any:
        """An assistant message may have no content; others must have some."""
        if isinstance(value, dict) and value.get("role") == "assistant" and value.get("content") is None:
            return value | {"content": ""}
        return value

    def plain(self) -> dict[str, str]:
        """The message for chat templates: parts joined, and the role `developer` renamed to `system`."""
        text = "\n".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatRequest(_Request):
    """Body of /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], FailFast(), Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=limits.MAX_TOP_LOGPROBS)] | None = None

    # Labels and hints that change nothing here.
    metadata: dict[str, Any] | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None

    # Not implemented.
    store: Off = None
    service_tier: Annotated[Any, only("auto", "default")] = None
    response_format: Annotated[Any, only({"type": "text"})] = None
    tools: Nothing = None
    tool_choice: Annotated[Any, only("none", "auto")] = None
    functions: Nothing = None
    function_call: Annotated[Any, only("none", "auto")] = None
    modalities: Annotated[Any, only(["text"])] = None
    audio: Absent = None
    prediction: Absent = None
    moderation: Absent = None
    reasoning_effort: Annotated[Any, only("none")] = None
    verbosity: Annotated[Any, only("medium")] = None
    web_search_options: Absent = None
    add_generation_prompt: On = None
    continue_final_message: Off = None
    chat_template: Absent = None
    chat_template_kwargs: Nothing = None


R = TypeVar("R", bound=BaseModel)


def parse(kind: type[R], body: bytes) -> R:
    """Parse and validate an untrusted body. Raises ApiError 400 that names the field."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(
            error.errors(include_url=False, include_context=False, include_input=False)[0]
        ) from None


def _refusal(first: Mapping[str, Any]) -> ApiError:
    """Convert a pydantic error to an error for clients."""
    if first["type"] == "json_invalid":
        return bad_request(f"The body is not JSON: {first['msg']}", code="invalid_json")
    if not first["loc"]:
        return bad_request("The body must be a JSON object.", code="invalid_json")
    param = ".".join(str(part) for part in first["loc"])[:200]
    if first["type"] == "extra_forbidden":
        return bad_request(f"Unrecognized request argument: {param}", param, "unknown_parameter")
    if first["type"] == "missing":
        return bad_request(f"Missing required parameter: {param}", param, "missing_required_parameter")
    code = "unsupported_value" if first["type"] == "unsupported" else "invalid_value"
    return bad_request(f"Invalid value for {param}: {first['msg']}", param, code)
