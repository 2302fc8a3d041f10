"""Checks in a separate process that the installed llama.cpp decodes and drafts on this CPU.

    python -m services.draft_worker.proof       # exit code 0, or 2 and why in one line

Standard library only: the set-up runs it before anything else is installed.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from services.draft_worker.builds import Build, safer

VERSION: Final = 1  # of the probe: an environment that passed an older version is probed again
LIMIT_S: Final = 120.0  # the probe takes half a second on an idle machine
EXIT_BROKEN: Final = 2  # equals EXIT_SETTINGS of shared/runtime/service.py
PACKAGE: Final = "llama-cpp-python"
# Signals that a fault in the process raises; others are sent from outside.
FAULTS: Final = {
    signal.SIGILL: "an illegal instruction",
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGBUS: "a bus error",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGABRT: "an abort",
    signal.SIGTRAP: "a trap",
    signal.SIGSYS: "a forbidden system call",
}
_ROOT: Final = str(Path(__file__).resolve().parents[2])
_CHILD: Final = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from services.draft_worker.probe import main; main()"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The probe's result.

    fault: the fatal signal, None = none. error: any other failure, "" = none. Neither: llama.cpp works.
    conclusive: False when the probe was killed from outside or timed out, which says nothing about llama.cpp.
    used: the instruction sets that llama.cpp was compiled for, as ggml names them.
    """

    fault: signal.Signals | None = None
    error: str = ""
    conclusive: bool = True
    used: frozenset[str] = frozenset()

    @property
    def works(self) -> bool:
        """Whether it decoded and drafted."""
        return self.fault is None and not self.error


def prove(
    python: Path | str = sys.executable, env: Mapping[str, str] | None = None, limit_s: float = LIMIT_S
) -> Outcome:
    """Run the probe under an interpreter that has llama.cpp. env: instead of this process's environment."""
    command = [str(python), "-P", "-c", _CHILD]
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and code
            command,
            env=dict(os.environ if env is None else env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(error=f"the probe of llama.cpp did not end within {limit_s:g} s", conclusive=False)
    except OSError as error:
        return Outcome(error=f"the probe of llama.cpp did not start: {error}", conclusive=False)
    return outcome(done.returncode, done.stdout, done.stderr)


def outcome(code: int, out: str, err: str) -> Outcome:
    """Interpret an exit code (negative: a signal) and the output."""
    used = frozenset(re.findall(r"(\w+) = 1", out))
    if code == 0:
        return Outcome(used=used)
    if code > 0:
        last = next(reversed(err.strip().splitlines()), f"exit code {code}")
        return Outcome(error=f"llama.cpp as installed here does not work: {last}", used=used)
    try:
        ended_by = signal.Signals(-code)
    except ValueError:  # a real-time signal
        return Outcome(error=f"the probe of llama.cpp was ended by signal {-code}", conclusive=False)
    if ended_by not in FAULTS:
        return Outcome(
            error=f"the probe of llama.cpp was ended by {ended_by.name}", conclusive=False, used=used
        )
    return Outcome(fault=ended_by, used=used)


def failure_message(found: Outcome) -> str:
    """Why llama.cpp cannot be used, and the fix; "" when it works."""
    if found.fault is None:
        return found.error
    return (
        f"llama.cpp as installed here dies of {FAULTS[found.fault]} ({found.fault.name}); "
        f"rebuild with {rebuild(safer(found.used))}"
    )


def rebuild(build: Build) -> str:
    """The command that compiles and installs another build here."""
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        version = ""
    requirement = f"{PACKAGE}=={version}" if version else PACKAGE
    options = f"--force-reinstall --no-deps --no-cache-dir --no-binary {PACKAGE}"
    variables = " ".join(f'{name}="{value}"' for name, value in build.variables().items())
    return f"`{variables} {sys.executable} -m pip install {options} {requirement}`"


def main() -> None:
    """Exit with EXIT_BROKEN when the probe fails; image builds run this."""
    found = prove()
    if not found.works:
        print(failure_message(found), file=sys.stderr)
        sys.exit(EXIT_BROKEN)


if __name__ == "__main__":
    main()
