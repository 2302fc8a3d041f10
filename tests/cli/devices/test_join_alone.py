"""`outrider join` without a core. With a core: tests/integration/test_join.py."""

import subprocess
import sys
from pathlib import Path

from tests.services.draft_worker.dying import DIES, path_with

ROOT = Path(__file__).parents[3]


def test_a_device_whose_llama_cpp_dies_does_not_join(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    options = ["redis://127.0.0.1:1", "--name", "pi", "--token-file", str(tmp_path / "token")]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "join", *options],
        cwd=ROOT,
        env=path_with(tmp_path / "path", DIES),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,  # without the guard it waits for the broker for ever
    )
    assert done.returncode == 2
    message = (
        "outrider join: llama.cpp as installed here dies of an illegal instruction (SIGILL); rebuild with `"
    )
    assert done.stderr.startswith(message)
