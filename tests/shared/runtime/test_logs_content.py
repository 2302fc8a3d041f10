"""Tracebacks in the log show the place of an error, but no prompts or texts."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys
import structlog
from shared.runtime.logs import configure

def handle(prompt):
    text = prompt[::-1]
    raise ValueError("no such thing")

configure("info", sys.argv[1], role="gateway")
try:
    handle(sys.argv[2])
except ValueError:
    structlog.get_logger().exception("request failed")
"""


@pytest.mark.parametrize("fmt", ["console", "json"])
def test_a_traceback_holds_no_values(fmt: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, fmt, "dear-diary"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "request failed" in run.stderr
    assert "ValueError" in run.stderr
    assert "handle" in run.stderr  # where
    assert "dear-diary" not in run.stderr
    assert "dear-diary"[::-1] not in run.stderr
