"""Converts a GGUF file to a target for transformers: dequantised weights as safetensors, config and tokenizer."""

import os
from pathlib import Path
from typing import Any

from cli.command.errors import ModelError


def dequantize(source: Path, into: Path, dtype: str) -> None:
    """Write config, tokenizer and weights of a GGUF file to the folder `into`. dtype: float32 or bfloat16.

    Raises ModelError for a file transformers cannot read or a family it cannot convert.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # Report prints the progress; read when tqdm is imported
    import torch  # heavy; most commands do not need these two
    import transformers

    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    at: dict[str, Any] = {"gguf_file": source.name}
    options = dict(at, dtype=getattr(torch, dtype))
    if hasattr(transformers, "GgufConfig"):  # older versions always dequantise
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(source.parent, **options)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source.parent, **at)
    except (ValueError, KeyError, NotImplementedError, OSError) as error:
        raise ModelError(f"{source}: transformers cannot convert it ({error})") from error
    model.config._name_or_path = ""  # a local path is of no use to a reader
    model.save_pretrained(into)
    tokenizer.save_pretrained(into)
    for path in into.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner can read


def versions() -> dict[str, str]:
    """Versions of the libraries that convert."""
    import torch  # heavy
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}
