"""A target for transformers out of a GGUF file: weights dequantised once, kept as safetensors."""

import os
from pathlib import Path
from typing import Any

from cli.command.errors import ModelError


def dequantize(source: Path, into: Path, dtype: str) -> None:
    """Write config, tokenizer and weights of a GGUF file to the folder `into`. dtype: float32 or bfloat16.

    Raises ModelError for a file transformers cannot read or a family it cannot convert.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when transformers first loads it; Report speaks here
    import torch  # heavy; most commands need none of these
    import transformers

    chatter: Any = transformers.utils.logging
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    at: dict[str, Any] = {"gguf_file": source.name}
    whole = dict(at, dtype=getattr(torch, dtype))
    if hasattr(transformers, "GgufConfig"):  # older versions always dequantise
        whole["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(source.parent, **whole)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source.parent, **at)
    except (ValueError, KeyError, NotImplementedError, OSError) as error:
        raise ModelError(f"{source}: transformers cannot convert it ({error})") from error
    model.config._name_or_path = ""  # the folder it came from says nothing
    model.save_pretrained(into)
    tokenizer.save_pretrained(into)
    for path in into.iterdir():
        path.chmod(0o644)  # weights come out readable by their owner only


def versions() -> dict[str, str]:
    """What converted."""
    import torch  # as above
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}
