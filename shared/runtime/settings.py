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

from shared.planning.bandwidth_rules import BY_POLICY, RULES, Rule
from shared.planning.policies import POLICY_NAMES
from shared.planning.windows import WINDOW_NAMES
from shared.runtime.env_file import ENCODING, EnvFileError, names_in

PREFIX = "OUTRIDER_"
ENV_FILE: Final = Path(".env")
NO_PREFIX: Final = "="  # no variable of an environment can have such a name
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

    broker_url: str = Field("redis://127.0.0.1:6379/0", description="URL of the broker")
    broker_user: str = Field("", max_length=128, description="user at the broker; empty = no authentication")
    broker_password_file: str = Field("", description="file with the broker user's password")
    shard: str = Field(
        "s0", pattern=r"^[a-z0-9]{1,16}$", description="hash tag of the shard's keys at the broker"
    )
    name: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="name of this process; empty = this host's name"
    )
    seed: int = Field(0, ge=0, description="seed of the process's random ids; 0 = the system's randomness")
    health_host: str = Field("127.0.0.1", description="address of /healthz, /readyz and /metrics")
    health_port: Port = Field(0, description="port of the health pages; 0 = the service's default")
    stack: str = Field(
        "",
        pattern=r"^[A-Za-z0-9]{0,64}$",
        description="id of the local stack that the process belongs to; its health pages return it",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="format of log lines: text for a terminal, or JSON objects"
    )
    trace: bool = Field(False, description="write spans to the trace stream")
    stream_limit: int = Field(
        4096,
        ge=8,
        le=1_000_000,
        description="maximum entries of a work stream; a full one refuses new entries",
    )
    model_dir: str = Field("", description="folder of the target: tokenizer, config, weights")


class GatewaySettings(Common):
    """Settings of the gateway."""

    host: str = Field("127.0.0.1", description="address on which the HTTP API listens")
    port: Port = Field(8000, description="port of the HTTP API; 0 = a free one")
    health_port: Port = Field(9101, description="port of /healthz, /readyz and /metrics; 0 = a free one")
    api_keys_file: str = Field(
        "", description="file with one API key per line; required on any bind address except loopback"
    )
    keyless: bool = Field(
        False,
        description="serve any address without API keys: for a port that is published on loopback only",
    )
    admin_keys_file: str = Field(
        "",
        description="file with keys that may use /admin, one per line; empty = requests from loopback only",
    )
    served_name: str = Field(
        "", description="model name for clients; empty = the name of the target's folder"
    )
    max_context: int = Field(
        8192, ge=16, le=1 << 20, description="maximum tokens of a request, prompt and completion together"
    )
    max_body_bytes: int = Field(
        4 << 20, ge=1024, le=1 << 28, description="maximum bytes of a request's body after decompression"
    )
    special_tokens_in_text: bool = Field(
        False,
        description="treat control tokens in a chat's messages as such, so that they open and close turns; "
        "false = as text",
    )
    max_messages: int = Field(
        2048,
        ge=1,
        le=65536,
        description="maximum messages of a chat; further parts of a message's content count, too",
    )
    max_prompt_chars: int = Field(
        0,
        ge=0,
        le=1 << 28,
        description="maximum characters of a prompt; 0 = 32 per token of OUTRIDER_MAX_CONTEXT",
    )
    max_long_requests: int = Field(
        64,
        ge=1,
        le=4096,
        description="maximum long requests that wait to be parsed and tokenized",
    )
    max_connections: int = Field(
        4096,
        ge=16,
        le=60_000,
        description="maximum connected clients; lower where the limit of open files (ulimit -n) requires it",
    )
    header_timeout_s: Seconds = Field(10.0, description="seconds in which a request's headers must arrive")
    idle_timeout_s: Seconds = Field(
        75.0, description="seconds after which a connection without requests is closed"
    )
    write_timeout_s: Seconds = Field(
        30.0, description="seconds after which a client that reads nothing of its response is disconnected"
    )
    keepalive_s: Seconds = Field(
        10.0,
        description="seconds without a token after which a stream gets a comment, so that proxies keep it open",
    )
    cors_origins: str = Field(
        "",
        max_length=4096,
        description="origins whose web pages may use the API from a browser, separated by commas; empty = none",
    )
    key_concurrency: int = Field(256, ge=1, le=1_000_000, description="maximum requests of one key at a time")
    key_rate: float = Field(1000.0, gt=0, description="maximum requests per second of one key")
    request_timeout_s: Seconds = Field(600.0, description="deadline of a session in seconds")
    linger_s: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="seconds after SIGTERM in which it still accepts requests but reports not ready, "
        "so that load balancers stop using it",
    )
    drain_s: Seconds = Field(
        20.0, description="seconds after OUTRIDER_LINGER_S in which requests under way may finish"
    )


class SchedulerSettings(Common):
    """Settings of the scheduler."""

    health_port: Port = Field(9102, description="port of /healthz, /readyz and /metrics; 0 = a free one")
    policy: str = Field("fixed-k", description=f"policy: {', '.join(POLICY_NAMES)}")
    k: int = Field(4, ge=0, le=64, description="draft length of fixed-k and cyclic-k in tokens")
    window: str = Field(
        "",
        description=f"window controller that sets draft lengths: {', '.join(WINDOW_NAMES)}; empty = the policy does",
    )
    batches: int = Field(2, ge=1, le=16, description="number of batches of cyclic-k")
    max_rows: int = Field(64, ge=1, le=512, description="maximum rows of a batch")
    prefill_tokens: int = Field(512, ge=16, le=65536, description="maximum prefill tokens of a batch")
    move_timeout_s: Seconds = Field(
        2.0,
        description="maximum wait for a draft, and minimum for a late verdict, in seconds; then the scheduler acts",
    )
    profile: str = Field(
        "", description="file of `outrider calibrate`; empty = costs are estimated from the first passes on"
    )
    devices_file: str = Field(
        "", description="list of devices with a credential, written by `outrider devices`"
    )
    plan_limit_s: Seconds = Field(
        10.0, description="maximum seconds of a planner's run; after that the previous plan remains in force"
    )
    cells: str = Field(
        "",
        max_length=4096,
        description="radio cells that devices share, with their bands, like `c1=256 kbit, c2=20 MHz`; empty = none",
    )
    bandwidth: Rule = Field(
        BY_POLICY,
        description=f"how a cell's band is shared among its devices: {', '.join(RULES)}; "
        "policy = as the policy says: outrider-latency has joint, the others none",
    )


class DraftWorkerSettings(Common):
    """Settings of a draft worker."""

    health_port: Port = Field(9104, description="port of /healthz, /readyz and /metrics; 0 = a free one")
    joined: bool = Field(
        False, description="the device authenticates with its own credential (`outrider join`)"
    )
    drafter: Literal["llama", "modelled"] = Field(
        "llama", description="drafting backend: llama.cpp, or a cost model for tests and simulations"
    )
    draft_model: str = Field("", description="GGUF file of the draft model")
    draft_threads: int = Field(1, ge=1, le=1024, description="compute threads of llama.cpp")
    nice: int = Field(0, ge=0, le=19, description="niceness of the compute threads")
    draft_sessions: int = Field(8, ge=1, le=1024, description="maximum sessions at a time")
    draft_kv_tokens: int = Field(4096, ge=64, le=1 << 22, description="KV tokens of all sessions together")
    # Of the modelled drafter:
    model_alpha: float = Field(
        0.8, ge=0, le=1, description="modelled drafter: probability that a drafted token is accepted"
    )
    model_draft_ms: float = Field(
        8.0, ge=0, le=60_000, description="modelled drafter: milliseconds per drafted token"
    )
    model_vocab: int = Field(
        49152,
        ge=2,
        le=1 << 24,
        description="modelled drafter: size of the vocabulary; must equal the target's",
    )
    link_ms: float = Field(
        0.0, ge=0, le=60_000, description="emulated link: delay of each message in ms, one way"
    )
    link_jitter_ms: float = Field(
        0.0,
        ge=0,
        le=60_000,
        description="emulated link: mean of an additional, exponentially distributed delay in ms, one way",
    )
    link_kbit_s: float = Field(
        0.0, ge=0, le=1e9, description="emulated link: rate in kbit/s, each way; 0 = no limit"
    )
    link_loss: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="emulated link: share of lost messages, each way; they are sent again 0.2 s later",
    )
    cell: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]{0,64}$",
        description="radio cell that the device shares, of those in OUTRIDER_CELLS; empty = none",
    )
    cell_eta: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="the device's rate in its cell for each unit of the band: bit/s/Hz, or a factor of kbit/s",
    )


class VerifierSettings(Common):
    """Settings of a verifier."""

    health_port: Port = Field(9103, description="port of /healthz, /readyz and /metrics; 0 = a free one")
    target: Literal["torch", "modelled"] = Field(
        "torch", description="verification backend: PyTorch, or a cost model for tests and simulations"
    )
    draft: str = Field(
        "",
        max_length=256,
        description="draft model for remote devices to fetch, a name of `outrider models`; "
        "empty = they bring their own",
    )
    core_draft: str = Field(
        "",
        description="small model that the core drafts with where it may, beside the target: a folder, GGUF file or "
        "hub name; empty = it looks up repetitions",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="processor of the target; auto = CUDA if there is a GPU"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="data type of the target's weights and activations; auto = the model's own"
    )
    verifier_threads: int = Field(0, ge=0, le=1024, description="compute threads; 0 = all cores")
    kv_tokens: int = Field(16384, ge=256, le=1 << 26, description="KV tokens of all sessions together")
    page_tokens: int = Field(16, ge=1, le=1024, description="tokens per page of the KV pool")
    prefix_sharing: bool = Field(
        True, description="let sessions share the KV pages of a common prompt prefix"
    )
    max_context: int = Field(
        8192,
        ge=16,
        le=1 << 20,
        description="maximum tokens of a session, prompt and completion; limited by the model's own maximum",
    )
    feed_tokens: int = Field(
        1024, ge=16, le=65536, description="maximum prefill and rebuild tokens of a batch"
    )
    stages: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that the target's layers are split over, beside this one; 1 = none, all here",
    )
    stage_layers: str = Field(
        "",
        max_length=512,
        description="layers of each stage, such as 9,7,7,7; empty = by the stages' measured speed",
    )
    stage_wait_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="longest wait of these processes for each other, at the start and for one that died, in seconds",
    )
    # Of the modelled target:
    model_vocab: int = Field(
        49152,
        ge=2,
        le=1 << 24,
        description="modelled target: size of the vocabulary; must equal the drafter's",
    )
    model_beta_ms: float = Field(
        20.0, ge=0, le=60_000, description="modelled target: constant part of a pass in ms"
    )
    model_per_token_ms: float = Field(
        1.0, ge=0, le=60_000, description="modelled target: part of a pass in ms per new token"
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


def isolated(cls: type[S], **overrides: Any) -> S:
    """Settings of one simulated service: defaults and overrides, whatever the environment and `.env` say."""
    return cls(_env_file=None, _env_prefix=NO_PREFIX, **overrides)


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
