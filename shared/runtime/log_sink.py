"""A log stream that never raises, so that a full disk loses log lines and not requests."""

import os
from io import UnsupportedOperation
from typing import TextIO


class LogSink:
    """A text stream for a logger. Lines that cannot be written are counted, and the count is logged later.

    Lines are written unbuffered to the file descriptor, so that a failed write is not retried at exit, where it
    would change the exit code.
    """

    def __init__(self, stream: TextIO) -> None:
        self.lost = 0
        self._stream = stream
        self._line = ""
        try:
            self._fd = stream.fileno()
        except (AttributeError, OSError, UnsupportedOperation, ValueError):
            self._fd = -1  # a stream without a file, as in tests

    def write(self, text: str) -> int:
        """Buffer text until `flush`."""
        self._line += text
        return len(text)

    def flush(self) -> None:
        """Write the buffered text."""
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
