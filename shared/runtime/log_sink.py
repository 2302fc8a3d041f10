"""Where log lines go: a stream that never raises, so that a full disk costs lines and not requests."""

import os
from io import UnsupportedOperation
from typing import TextIO


class LogSink:
    """A text stream for a logger. Lines that cannot be written are counted; the count is the first line after them.

    Lines go to the file descriptor without a buffer: what a full disk refused is not tried again at exit, where it
    would change the exit code.
    """

    def __init__(self, stream: TextIO) -> None:
        self.lost = 0
        self._stream = stream
        self._line = ""
        try:
            self._fd = stream.fileno()
        except (AttributeError, OSError, UnsupportedOperation, ValueError):
            self._fd = -1  # a stream without a file: a test's

    def write(self, text: str) -> int:
        """Keep text until `flush`."""
        self._line += text
        return len(text)

    def flush(self) -> None:
        """Write what was kept."""
        line, self._line = self._line, ""
        if not line:
            return
        note = f"\n{self.lost} log lines could not be written\n" if self.lost else ""
        try:
            self._put(note + line)
        except (OSError, ValueError):  # a full disk, a closed pipe or stream
            self.lost += 1
        else:
            self.lost = 0

    def _put(self, text: str) -> None:
        if self._fd < 0:
            self._stream.write(text)
            self._stream.flush()
            return
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]
