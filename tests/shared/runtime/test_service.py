"""The common entry point of services."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.service import EXIT_LOST, EXIT_REFUSED

ROOT = Path(__file__).resolve().parents[3]


def test_a_service_may_open_as_many_files_as_the_system_allows() -> None:
    code = (
        "import resource\n"
        "from shared.runtime.open_files import open_files\n"
        "from shared.runtime.service import main\n"
        "async def run(_): print(open_files())\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))\n"
        "main('test', run)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "300\n"


@pytest.mark.parametrize("stderr", ["/dev/null", "/dev/full"])
def test_a_refused_service_says_so_by_its_code_on_a_full_disk_too(stderr: str) -> None:
    """Otherwise its supervisor would start it again and again."""
    code = (
        "from shared.runtime.service import Refused, main\n"
        "async def run(_): raise Refused('another vocabulary')\n"
        "main('test', run)"
    )
    with Path(stderr).open("w") as sink:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=sink, check=False)
    assert done.returncode == EXIT_REFUSED


def test_a_service_that_lost_its_neighbours_ends_although_a_thread_still_waits_for_them() -> None:
    code = (
        "import asyncio, threading\n"
        "from shared.runtime.service import Lost, main\n"
        "async def run(_):\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        "    raise Lost('rank 2 is gone')\n"
        "main('test', run)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_LOST
    assert done.stderr == "test: rank 2 is gone\n"
