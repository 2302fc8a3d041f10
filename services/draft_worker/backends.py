"""The compute libraries of llama.cpp, where a build keeps one per CPU variant apart from itself (the images do)."""

from pathlib import Path
from typing import Final

import llama_cpp

# The loaded library: its dependency that holds the registry must be this process's only one.
_LIBRARY: Final = llama_cpp.llama_cpp._lib


def load_backends() -> None:
    """Load the variant that suits this CPU best. Does nothing where one is built in, or loaded already.

    llama.cpp itself would look beside the Python executable and in the current folder, where it is not.
    """
    if _LIBRARY.ggml_backend_reg_count() == 0:
        _LIBRARY.ggml_backend_load_all_from_path(str(Path(_LIBRARY._name).parent).encode())
