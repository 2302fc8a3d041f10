"""Settings: one typed class per service, from the environment, `.env`, or a file of the same form.

Every name starts with OUTRIDER_. An unknown or out-of-range one is an error that names it.
"""

import os
import re
import socket
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.planning.policies import POLICY_NAMES
from shared.runtime.env_file import ENCODING, EnvFileError, names_in

PREFIX = "OUTRIDER_"
ENV_FILE: Final = Path(".env")
# Read by the Makefile and the command line, not by a service.
NOT_OURS = frozenset(
    {
        "OUTRIDER_ACCESS",
        "OUTRIDER_API_KEY",
        "OUTRIDER_CACHE",
        "OUTRIDER_DEBUG",
        "OUTRIDER_JOIN_URL",
        "OUTRIDER_STATE",
    }
)

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class SettingsError(ValueError):
    """A setting that is unknown or has a bad value; the text names it and what is allowed."""


class Common(BaseSettings):
    """Settings of all services."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    broker_url: str = Field("redis://127.0.0.1:6379/0", description="where the broker is")
    broker_user: str = Field("", max_length=128, description="user there; empty = none is asked for")
    broker_password_file: str = Field("", description="file with that user's password")
    shard: str = Field("s0", pattern=r"^[a-z0-9]{1,16}$", description="hash tag of this shard's keys")
    name: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="name of this process; empty = this host's name"
    )
    seed: int = Field(0, ge=0, description="seed of the process's own random ids; 0 = from the system")
    health_host: str = Field("127.0.0.1", description="address of /healthz, /readyz and /metrics")
    health_port: Port = Field(0, description="port of the same; 0 = the service's own default")
    stack: str = Field(
        "",
        pattern=r"^[A-Za-z0-9]{0,64}$",
        description="id of the stack it belongs to, shown by its health pages",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="form of a log line: text for a terminal, or one JSON object"
    )
    trace: bool = Field(False, description="write spans to the trace stream")
    stream_limit: int = Field(
        4096, ge=8, le=1_000_000, description="entries a work stream holds before it refuses"
    )
    model_dir: str = Field("", description="folder of the target: tokenizer, config, weights")


class GatewaySettings(Common):
    """Settings of the gateway."""

    host: str = Field("127.0.0.1", description="address the HTTP API listens on")
    port: Port = Field(8000, description="port of the HTTP API; 0 = a free one")
    health_port: Port = Field(9101, description="port of /healthz, /readyz and /metrics; 0 = a free one")
    api_keys_file: str = Field(
        "", description="file with one API key a line; needed on any bind address but loopback"
    )
    keyless: bool = Field(
        False,
        description="whoever reaches the gateway may use it, on any address: for a port published on loopback alone",
    )
    admin_keys_file: str = Field("", description="keys that may change the policy; empty = loopback only")
    served_name: str = Field("", description="model name clients use; empty = the folder's name")
    max_context: int = Field(
        8192, ge=16, le=1 << 20, description="prompt and completion tokens of one request"
    )
    max_body_bytes: int = Field(
        4 << 20, ge=1024, le=1 << 28, description="bytes of a request's body, unpacked"
    )
    special_tokens_in_text: bool = Field(
        False,
        description="control tokens written in a chat's messages open and close turns; else they are text",
    )
    max_messages: int = Field(
        2048,
        ge=1,
        le=65536,
        description="messages of one chat; further parts of a message's content count too",
    )
    max_prompt_chars: int = Field(
        0,
        ge=0,
        le=1 << 28,
        description="characters of one prompt; 0 = 32 for each token of OUTRIDER_MAX_CONTEXT",
    )
    max_long_requests: int = Field(
        64,
        ge=1,
        le=4096,
        description="long requests that may wait to be parsed and tokenized, one after another",
    )
    max_connections: int = Field(
        4096,
        ge=16,
        le=60_000,
        description="clients connected at once; fewer where open files are limited (ulimit -n)",
    )
    header_timeout_s: Seconds = Field(10.0, description="a request's headers have to be here by then")
    idle_timeout_s: Seconds = Field(75.0, description="a connection without requests is closed after so long")
    write_timeout_s: Seconds = Field(
        30.0, description="a client that reads nothing of its answer for so long is disconnected"
    )
    keepalive_s: Seconds = Field(
        10.0,
        description="a stream that has no token for so long gets a comment instead, so that proxies keep it open",
    )
    cors_origins: str = Field(
        "",
        max_length=4096,
        description="origins whose web pages may use the API from a browser, with commas between; empty = none",
    )
    key_concurrency: int = Field(256, ge=1, le=1_000_000, description="requests one key may have under way")
    key_rate: float = Field(1000.0, gt=0, description="requests a second one key may start")
    request_timeout_s: Seconds = Field(600.0, description="a session's deadline")
    linger_s: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="after SIGTERM it still serves so long, while not ready: balancers look elsewhere",
    )
    drain_s: Seconds = Field(20.0, description="then requests under way get so long to end")


class SchedulerSettings(Common):
    """Settings of the scheduler."""

    health_port: Port = Field(9102, description="port of /healthz, /readyz and /metrics; 0 = a free one")
    policy: str = Field(
        "fixed-k",
        description=" | ".join(POLICY_NAMES),
    )
    k: int = Field(4, ge=0, le=64, description="draft length of fixed-k and cyclic-k")
    batches: int = Field(2, ge=1, le=16, description="N of cyclic-k")
    max_rows: int = Field(64, ge=1, le=512, description="rows in one batch at most")
    prefill_tokens: int = Field(512, ge=16, le=65536, description="prefill tokens in one batch at most")
    move_timeout_s: Seconds = Field(2.0, description="longest wait for a session's next move")
    profile: str = Field(
        "", description="file of `outrider calibrate`; empty = costs are learnt from the first passes on"
    )
    devices_file: str = Field(
        "", description="list of devices with a credential of their own, kept by `outrider devices`"
    )
    plan_limit_s: Seconds = Field(
        10.0, description="longest time a plan may take; the last one stays in force"
    )


class DraftWorkerSettings(Common):
    """Settings of a draft worker."""

    health_port: Port = Field(9104, description="port of /healthz, /readyz and /metrics; 0 = a free one")
    joined: bool = Field(False, description="a device with a credential of its own (`outrider join`)")
    drafter: Literal["llama", "modelled"] = Field(
        "llama", description="what drafts: llama.cpp, or a model of its timing for tests and simulations"
    )
    draft_model: str = Field("", description="GGUF file of the draft model")
    draft_threads: int = Field(1, ge=1, le=1024, description="compute threads of llama.cpp")
    nice: int = Field(0, ge=0, le=19, description="how far drafting stands back for others (nice)")
    draft_sessions: int = Field(8, ge=1, le=1024, description="sessions at once")
    draft_kv_tokens: int = Field(4096, ge=64, le=1 << 22, description="KV tokens of all sessions together")
    # Of the modelled drafter:
    model_alpha: float = Field(
        0.8, ge=0, le=1, description="modelled drafter: chance that a drafted token is accepted"
    )
    model_draft_ms: float = Field(
        8.0, ge=0, le=60_000, description="modelled drafter: milliseconds to draft one token"
    )
    model_vocab: int = Field(
        49152, ge=2, le=1 << 24, description="modelled drafter: tokens of the vocabulary; as the target's"
    )
    link_ms: float = Field(0.0, ge=0, le=60_000, description="userland delay added to each message, one way")
    link_jitter_ms: float = Field(
        0.0, ge=0, le=60_000, description="mean of a further delay of each message, exponentially distributed"
    )
    link_kbit_s: float = Field(
        0.0, ge=0, le=1e9, description="emulated rate of the link, each way; 0 = no limit"
    )
    link_loss: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of messages lost on the link, each way; they come again 0.2 s later",
    )


class VerifierSettings(Common):
    """Settings of a verifier."""

    health_port: Port = Field(9103, description="port of /healthz, /readyz and /metrics; 0 = a free one")
    target: Literal["torch", "modelled"] = Field(
        "torch", description="what verifies: PyTorch, or a model of its timing for tests and simulations"
    )
    draft: str = Field(
        "",
        max_length=256,
        description="what devices from elsewhere fetch to draft with, a name of `outrider models`; empty = their own",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the target runs; auto = CUDA if there is a GPU"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="type of the target's weights and activations; auto = the model's own"
    )
    verifier_threads: int = Field(0, ge=0, le=1024, description="0 = all cores")
    kv_tokens: int = Field(16384, ge=256, le=1 << 26, description="KV tokens of all sessions together")
    page_tokens: int = Field(16, ge=1, le=1024, description="tokens of one page of the KV pool")
    prefix_sharing: bool = Field(True, description="sessions whose prompts begin alike share KV pages")
    max_context: int = Field(
        8192,
        ge=16,
        le=1 << 20,
        description="prompt and completion tokens of one session; no more than the model's",
    )
    feed_tokens: int = Field(
        1024, ge=16, le=65536, description="prefill and rebuild tokens in one batch at most"
    )
    # Of the modelled target:
    model_vocab: int = Field(
        49152, ge=2, le=1 << 24, description="modelled target: tokens of the vocabulary; as the drafter's"
    )
    model_beta_ms: float = Field(
        20.0, ge=0, le=60_000, description="modelled target: milliseconds of a pass, whatever is in it"
    )
    model_per_token_ms: float = Field(
        1.0, ge=0, le=60_000, description="modelled target: milliseconds of a pass for each token in it"
    )


ALL: tuple[type[Common], ...] = (GatewaySettings, SchedulerSettings, DraftWorkerSettings, VerifierSettings)
S = TypeVar("S", bound=Common)


def load(cls: type[S], file: str | None = None, **overrides: Any) -> S:
    """Settings of one service. Raises SettingsError that names the setting, its value and what is allowed."""
    if file and not Path(file).is_file():
        raise SettingsError(f"{file}: no such file")
    env_file = Path(file) if file else ENV_FILE
    _refuse_unknown(env_file)
    try:
        return cls(_env_file=env_file, _env_file_encoding=ENCODING, **overrides)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name}={first['input']!r}: {first['msg']}") from None


def is_set(name: str) -> bool:
    """Whether the environment or `.env` sets OUTRIDER_`name`. Raises SettingsError."""
    return any((PREFIX + name).upper() == given.upper() for given in (*os.environ, *_names_in(ENV_FILE)))


def load_named(cls: type[S]) -> S:
    """`load` for a service's process. The name defaults to the host's, so that containers get different names."""
    settings = load(cls)
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64]
    return settings if settings.name else settings.model_copy(update={"name": host})


def _refuse_unknown(env_file: Path) -> None:
    """Refuse unknown and duplicate names. Case is ignored, as in pydantic-settings, except for NOT_OURS."""
    settings = {PREFIX + name.upper() for cls in ALL for name in cls.model_fields}
    for source, names in (("", list(os.environ)), (f"{env_file}: ", list(_names_in(env_file)))):
        ours = sorted(name for name in names if name.upper().startswith(PREFIX))
        for name in ours:
            if name.upper() not in settings and name not in NOT_OURS:
                known = ", ".join(sorted(settings | NOT_OURS))
                raise SettingsError(f"{source}{name}: no such setting; known are {known}")
        ours.sort(key=str.upper)
        for one, other in pairwise(ours):
            if one.upper() == other.upper():
                raise SettingsError(f"{source}{one} and {other} are the same setting; leave one out")


def _names_in(env_file: Path) -> dict[str, int]:
    try:
        return names_in(env_file)
    except EnvFileError as error:
        raise SettingsError(str(error)) from None
