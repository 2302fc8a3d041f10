"""Requantises a GGUF file with llama.cpp: a draft is made from its target's own file."""

from pathlib import Path
from typing import Final

from cli.command.errors import ModelError
from cli.models.llama_guard import require_llama
from cli.models.manifest import DraftRecipe

FTYPE: Final = "LLAMA_FTYPE_MOSTLY_"
TENSOR: Final = "GGML_TYPE_"


def requantize(source: Path, into: Path, recipe: DraftRecipe, threads: int = 0) -> None:
    """Write `source` with weights of another type to `into`. threads: 0 = all cores. Raises ModelError.

    Rows whose length is not a multiple of the type's block length get llama.cpp's fallback type. The file `into`
    appears only when it is complete.
    """
    require_llama()
    import llama_cpp  # loads a native library; most commands need none

    from services.draft_worker.backends import load_backends  # another service
    from services.draft_worker.llama_log import keep_errors, reason

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = _constant(llama_cpp, FTYPE, recipe.type)
    params.allow_requantize = True
    params.pure = recipe.pure
    params.nthread = threads
    if recipe.embeddings:
        params.token_embedding_type = _constant(llama_cpp, TENSOR, recipe.embeddings)
    keep_errors()
    load_backends()
    partial = into.with_name(into.name + ".partial")
    try:
        code = llama_cpp.llama_model_quantize(str(source).encode(), str(partial).encode(), params)
        if code != 0:
            raise ModelError(f"{source}: llama.cpp could not requantise it to {recipe.type}: {reason()}")
        partial.replace(into)
    finally:
        partial.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Version of the library that requantises."""
    import llama_cpp  # loads a native library

    return {"llama-cpp-python": llama_cpp.__version__}


def _constant(llama_cpp: object, prefix: str, name: str) -> int:
    value = getattr(llama_cpp, prefix + name.upper(), None)
    if isinstance(value, int):
        return value
    names = sorted(known.removeprefix(prefix) for known in dir(llama_cpp) if known.startswith(prefix))
    raise ModelError(f"{name}: no such quantisation; llama.cpp has {', '.join(names)}")
