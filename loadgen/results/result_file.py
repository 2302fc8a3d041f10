"""Writes result files: one JSON document with its schema version, configuration, commit and hardware."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Final

from loadgen.results.output import replacing

SCHEMA: Final = 1


def write_result(
    path: Path, kind: str, config: Mapping[str, Any], body: Mapping[str, Any], measured: bool = True
) -> None:
    """Write a result atomically: a reader sees the old file or the new one. Raises OSError.

    measured: note date, commit and hardware. A simulation depends on none of them.
    """
    here = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "git": git_sha(), "hardware": hardware()}
    document = {
        "schema": SCHEMA,
        "kind": kind,
        **(here if measured else {}),
        "config": dict(config),
        **body,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The value with None for nan and infinity, which JSON does not have."""
    match value:
        case float():
            return value if isfinite(value) else None
        case Mapping():
            return {name: _finite(one) for name, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
    return value


def clock_time(at: float) -> str:
    """A time of time.perf_counter() as ISO 8601 in UTC."""
    ago_s = time.perf_counter() - at
    return datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="milliseconds")


def git_sha() -> str:
    """Commit of the checkout that this runs from, "" outside of a checkout."""
    try:
        done = subprocess.run(  # a fixed command
            ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def hardware() -> dict[str, Any]:
    """Hardware and software of this machine."""
    return {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
