"""Loads a target model: by hub name, from a folder or a GGUF file, or with random weights for benchmarks."""

import os
import shutil
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from services.verifier.families import shape_of
from services.verifier.torch_target import TorchTarget
from services.verifier.weights import ModelFileError
from shared.protocol.vocabulary import Vocabulary, vocabulary_of_tokenizer_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_target(
    source: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    kv_tokens: int = 16384,
    page_tokens: int = 16,
    prefix_sharing: bool = True,
    max_context: int | None = None,
    vocabulary: Vocabulary | None = None,
) -> TorchTarget:
    """The target model of a folder (configuration and safetensors, or a GGUF file), a GGUF file or a hub name.

    dtype: float32, bfloat16 or auto (the model's own); device: cpu, cuda or auto. vocabulary: of its
    tokenizer.json unless given. Raises ModelFileError and UnsupportedModel.
    """
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    folder = model_folder(source, dtype)
    config = model_config(folder)
    shape_of(config)  # refuse before gigabytes are read
    model = _weights(folder, config, dtype_of(config, dtype, place), place)
    if vocabulary is None:
        vocabulary = vocabulary_of(folder, config.vocab_size)
    return TorchTarget(
        model,
        vocabulary=vocabulary.hash,
        vocab=vocabulary.size,
        vocabulary_blocks=vocabulary.blocks,
        kv_tokens=kv_tokens,
        page_tokens=page_tokens,
        prefix_sharing=prefix_sharing,
        max_context=max_context,
    )


def random_target(
    config: Any, *, dtype: torch.dtype, device: str, kv_tokens: int, **options: Any
) -> TorchTarget:
    """A target with random weights, created on its device. options: arguments of TorchTarget."""
    with torch.device(device):
        factory: Any = AutoModelForCausalLM
        model = factory.from_config(config, dtype=dtype)
    return TorchTarget(model, vocabulary="random", vocab=config.vocab_size, kv_tokens=kv_tokens, **options)


def model_folder(source: str, dtype: str = "auto") -> str:
    """A folder, or the hub name itself, that transformers can load: GGUF files are converted once and kept."""
    path = Path(source).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return str(path)
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            raise ModelFileError(
                f"{path}: needs config.json with safetensors, or one .gguf file; has {len(files)}"
            )
        path = files[0]
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file")
        return str(_dequantized(path, "bfloat16" if dtype == "bfloat16" else "float32"))
    if path.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelFileError(f"{path}: no such folder or .gguf file")
    return source


def _dequantized(path: Path, dtype: str) -> Path:
    """Folder with the weights of a GGUF file in float32 or bfloat16. Loading the GGUF again takes 15 to 50 s."""
    stat = path.stat()
    key = blake2b(
        f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {dtype}".encode(), digest_size=8
    ).hexdigest()
    cache = Path(os.environ.get("OUTRIDER_CACHE", "~/.cache/outrider")).expanduser() / "dequantised"
    folder = cache / f"{path.stem}-{key}"
    if (folder / "config.json").is_file():
        return folder
    part = cache / f"{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    at: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    whole = dict(at, dtype=DTYPES[dtype])
    if hasattr(transformers, "GgufConfig"):  # older versions always dequantise
        whole["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        model = AutoModelForCausalLM.from_pretrained(path.parent, **whole)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **at)
    except (ValueError, KeyError, NotImplementedError, OSError, ImportError) as error:
        raise ModelFileError(f"{path}: transformers cannot convert it: {error}") from error
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(folder)
    return folder


def model_config(folder: str) -> Any:
    """The transformers configuration of a folder or hub name. Raises ModelFileError."""
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=Path(folder).is_dir())
    except (OSError, ValueError, KeyError) as error:
        raise ModelFileError(f"{folder}: {_first_line(error)}") from error


def _weights(folder: str, config: Any, dtype: torch.dtype, place: torch.device) -> Any:
    """The model on its device. Weights that are missing or of the wrong shape are an error, not left random."""
    factory: Any = AutoModelForCausalLM
    try:
        model, loading_info = factory.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            device_map=None if place.type == "cpu" else place,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelFileError(f"{folder}: {_first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.startswith("safetensors"):
            raise ModelFileError(f"{folder}: corrupt safetensors: {_first_line(error)}") from error
        raise
    wrong = sorted(
        str(key) for kind in ("missing_keys", "mismatched_keys") for key in loading_info.get(kind, ())
    )
    if wrong:
        raise ModelFileError(f"{folder}: {len(wrong)} weights missing or of another shape, first {wrong[0]}")
    return model


def vocabulary_of(folder: str, rows: int) -> Vocabulary:
    """The vocabulary of the folder's tokenizer.json, downloaded if the source is a hub name. Raises ModelFileError."""
    path = Path(folder) / "tokenizer.json"
    if not Path(folder).is_dir():
        path = Path(hf_hub_download(folder, "tokenizer.json"))
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    return vocabulary_of_tokenizer_json(path, rows)


def dtype_of(config: Any, name: str, place: torch.device) -> torch.dtype:
    """The data type of a model by OUTRIDER_DTYPE: its own under auto."""
    if name != "auto":
        return DTYPES[name]
    if config.dtype in DTYPES.values():
        own: torch.dtype = config.dtype
        return own
    return torch.bfloat16 if place.type == "cuda" else torch.float32


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
