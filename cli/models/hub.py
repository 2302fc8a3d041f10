"""Downloads from a Hugging Face hub, if one can be reached."""

import os
import shutil
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cli.command.errors import ModelError

CONNECT_S: Final = 3.0  # time limit of the check whether a hub answers at all
PATTERNS: Final = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]


def file(repo: str, name: str, into: Path) -> Path:
    """Download one file of a repository to the folder `into`; returns its path. Raises ModelError."""
    _need_answer()
    try:
        import huggingface_hub  # optional, and slow to load

        return Path(huggingface_hub.hf_hub_download(repo, name, local_dir=into / repo.replace("/", "--")))
    except ImportError:
        raise ModelError("huggingface_hub is not installed") from None
    except (OSError, ValueError) as error:  # its HTTP errors are OSErrors
        raise ModelError(f"{repo}/{name}: {_first_line(error)}") from None


def snapshot(repo: str, into: Path) -> None:
    """Download config, tokenizer and safetensors of a repository to the folder `into`. Raises ModelError."""
    _need_answer()
    try:
        import huggingface_hub  # optional, and slow to load

        huggingface_hub.snapshot_download(repo, allow_patterns=PATTERNS, local_dir=into)
    except ImportError:
        raise ModelError("huggingface_hub is not installed") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{repo}: {_first_line(error)}") from None
    shutil.rmtree(into / ".cache", ignore_errors=True)  # the library's metadata of the download


def _need_answer() -> None:
    """Raise ModelError within CONNECT_S where no hub answers, instead of after the library's many retries."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise ModelError("HF_HUB_OFFLINE is set")
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return  # a direct connection would prove nothing: the library connects through the proxy
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
        socket.create_connection((endpoint.hostname or "", port), timeout=CONNECT_S).close()
    except OSError as error:
        raise ModelError(f"{endpoint.geturl()} does not answer ({error})") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
