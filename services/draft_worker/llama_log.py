"""llama.cpp's log: its errors are kept and passed on, its other messages dropped."""

import ctypes
from collections.abc import Callable
from typing import Final

import llama_cpp as llama

_ERROR: Final = 4  # ggml.h, GGML_LOG_LEVEL_ERROR
_KEPT: Final = 8
_errors: list[str] = []
_forward: list[Callable[[str], None]] = []


def keep_errors(forward: Callable[[str], None] | None = None) -> None:
    """Forget the errors so far and keep those to come; `forward` is called with each, from any thread."""
    _errors.clear()
    _forward[:] = [forward] if forward else []
    llama.llama_log_set(_callback, ctypes.c_void_p(0))


def reason() -> str:
    """The first error since keep_errors: later ones are mostly its consequences."""
    return _errors[0] if _errors else "llama.cpp gives no reason"


def _on_message(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level != _ERROR:
        return
    line = text.decode("utf-8", "replace").strip()
    if len(_errors) < _KEPT:
        _errors.append(line)
    for forward in _forward:
        forward(line)


# The process's only callback, and it lives as long: llama.cpp keeps a bare pointer and calls it at any later time.
_callback: Final = llama.llama_log_callback(_on_message)
