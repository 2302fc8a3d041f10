"""Result files of benchmarks: those of loadgen/results with the command line, and the resumption of a run."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadgen.results.result_file import hardware, write_result


def write_measurement(path: Path, kind: str, config: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    """Write atomically, with the command that measured. Raises OSError.

    For commands without secrets in their options: the command line is written as it was typed.
    """
    write_result(path, kind, config, {"command": command(), **body})


def command() -> str:
    """The command line of this process, with the interpreter and scripts by name alone."""
    program, *arguments = sys.orig_argv
    if arguments and Path(arguments[0]).is_absolute():
        program, *arguments = arguments
    return shlex.join([Path(program).name, *arguments])


def interrupted(path: Path, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an earlier run with the same configuration and hardware, to be continued; {} if there is none."""
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = (earlier["kind"], earlier["config"]) == (kind, json.loads(json.dumps(config)))
        return earlier if same and earlier["hardware"] == hardware() else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
