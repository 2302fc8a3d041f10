"""Structured logs on stderr: key=value for people, JSON lines for machines.

Tracebacks omit the values of variables, because they may contain prompts and texts.
"""

import logging
import sys
from typing import Any, Literal

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from shared.runtime.log_sink import LogSink


def configure(level: str, fmt: Literal["console", "json"], **bound: Any) -> None:
    """Set up structlog once per process. bound: fields of every line (role, name)."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=28,
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
            if fmt == "json"
            else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(LogSink(sys.stderr)),  # type: ignore[arg-type]  # prints to it
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**bound)
