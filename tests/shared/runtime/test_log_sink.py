"""Logging to a full disk or a closed stream, and once there is room again."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.log_sink import LogSink

ROOT = Path(__file__).resolve().parents[3]


class Disk(io.StringIO):
    """A stream whose disk can be full."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_lines_lost_on_a_full_disk_are_counted_and_told_afterwards() -> None:
    disk = Disk()
    sink = LogSink(disk)
    for full, text in ((False, "one"), (True, "two"), (True, "three"), (False, "four"), (False, "five")):
        disk.full = full
        print(text, file=sink, flush=True)
    assert disk.getvalue() == "one\n\n2 log lines could not be written\nfour\nfive\n"


def test_a_closed_stream_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    print("anything", file=LogSink(stream), flush=True)


def test_a_file_is_written_without_a_buffer(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="latin-1") as file:
        print("Grüße \ud800", file=LogSink(file), flush=True)
        assert (tmp_path / "log").read_text(encoding="utf-8") == "Grüße \\ud800\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("fmt", ["console", "json"])
def test_a_process_that_logs_to_a_full_disk_goes_on_and_exits_zero(fmt: str) -> None:
    code = (
        "import structlog\n"
        "from shared.runtime import logs\n"
        f"logs.configure('info', {fmt!r}, role='test')\n"
        "for i in range(500): structlog.get_logger().info('line', i=i, text='x' * 200)\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: structlog.get_logger().exception('failed')\n"
        "print('done')"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "done\n")
