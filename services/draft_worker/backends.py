"""Loads llama.cpp's compute library, where a build ships one per CPU variant (the images do)."""

from pathlib import Path
from typing import Final

import llama_cpp

# The library that the process has loaded already, so that there is only one backend registry.
_LIBRARY: Final = llama_cpp.llama_cpp._lib


def load_backends() -> None:
    """Load the best variant for this CPU. Does nothing if one is built in or loaded already.

    llama.cpp's own search covers only the folder of the Python executable and the current one.
    """
    if _LIBRARY.ggml_backend_reg_count() == 0:
        _LIBRARY.ggml_backend_load_all_from_path(str(Path(_LIBRARY._name).parent).encode())
