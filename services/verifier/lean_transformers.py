"""Models of transformers without SciPy, which only its losses of image models use: 40 MiB and half a second."""

from typing import Any


def attention_interface() -> Any:
    """transformers.AttentionInterface, whose import loads all that models need."""
    import transformers.utils  # noqa: PLC0415  # light; the rest is loaded below

    tools: Any = transformers.utils
    own = getattr(
        tools, "is_scipy_available", None
    )  # another version may have it elsewhere: nothing is saved then
    try:
        if own is not None:
            tools.is_scipy_available = lambda: False
        return transformers.AttentionInterface
    finally:
        if own is not None:
            tools.is_scipy_available = own
