"""The registry of window controllers. To add one, write its file in this package and one line in `REGISTRY`.

A window controller sets a session's draft length in place of its policy's `next_length`; batching stays the policy's.
A controller's module is loaded when one of its controllers is made, so that reading names is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.planning.windows.window import Window

DEFAULT_K: Final = 4
REGISTRY: Final = {  # name: file in this package; its `make` takes k and returns the controller
    "static": "static",
    "backoff": "backoff",
    "threshold": "threshold",
    "ema": "ema",
    "goodput": "goodput",
    "awc": "awc",
    "fused": "fused",
    "flowspec": "flowspec",
}
WINDOW_NAMES: Final = tuple(REGISTRY)
NO_WINDOW: Final = "none"  # where one may be named: the policy sets draft lengths
SIMULATED_NAMES: Final = ("oracle",)  # of `outrider simulate` alone, in simulator/


class UnknownWindow(ValueError):
    """No window controller has that name; the text lists the known ones."""


def make_window(name: str, k: int = 0) -> "Window":
    """Make a window controller by name. k: its first draft length, 0 = DEFAULT_K. Raises UnknownWindow."""
    if name in SIMULATED_NAMES:
        raise UnknownWindow(
            f"{name!r}: only a simulation knows what drafts will be; known are {', '.join(REGISTRY)}"
        )
    if name not in REGISTRY:
        raise UnknownWindow(f"{name!r}: no such window controller; known are {', '.join(REGISTRY)}")
    module = import_module(f"{__name__}.{REGISTRY[name]}")
    window: Window = module.make(k or DEFAULT_K)
    return window
