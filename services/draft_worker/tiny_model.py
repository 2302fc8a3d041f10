"""A GGUF model of a mebibyte with random weights, one matrix of every quantisation that drafts come in.

Matrices are 256 × 256 and larger in steps of 32 rows: shapes for which ggml takes its fastest path, AMX where the
CPU has it. The text means nothing. Needs NumPy alone: a device has no package that writes GGUF.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

WIDTH: Final = 256  # of every layer: the block of the K quantisations
VOCAB: Final = 288
LAYERS: Final = 2
HEADS: Final = 4
CONTEXT: Final = 256
_ALIGNMENT: Final = 32
_VERSION: Final = 3
_U32, _I32, _F32, _STRING, _ARRAY = 4, 5, 6, 8, 9  # value types of GGUF
_FLOATS: Final = {"F32": 0, "F16": 1, "BF16": 30}


@dataclass(frozen=True, slots=True)
class _Block:
    """A ggml quantisation type: its number, weights and bytes per block, and offsets of float16 fields.

    The fields are scales, and the minimum weight where a type has one; every other byte may have any value.
    """

    number: int
    weights: int
    size: int
    fields: Mapping[int, float]


_BLOCKS: Final = {
    "Q4_0": _Block(2, 32, 18, {0: 0.01}),
    "Q4_1": _Block(3, 32, 20, {0: 0.01, 2: -0.08}),
    "Q5_0": _Block(6, 32, 22, {0: 0.005}),
    "Q5_1": _Block(7, 32, 24, {0: 0.005, 2: -0.08}),
    "Q8_0": _Block(8, 32, 34, {0: 0.001}),
    "Q2_K": _Block(10, 256, 84, {80: 0.002, 82: 0.002}),
    "Q3_K": _Block(11, 256, 110, {108: 0.001}),
    "Q4_K": _Block(12, 256, 144, {0: 0.0001, 2: 0.001}),
    "Q5_K": _Block(13, 256, 176, {0: 0.0001, 2: 0.001}),
    "Q6_K": _Block(14, 256, 210, {208: 0.00003}),
    "IQ4_NL": _Block(20, 32, 18, {0: 0.001}),
    "IQ4_XS": _Block(23, 256, 136, {0: 0.00003}),
}
TENSORS: Final = {  # type of every matrix: (tokens or rows) × WIDTH
    "token_embd": "IQ4_NL",
    "output": "Q6_K",
    "blk.0.attn_q": "Q4_0",
    "blk.0.attn_k": "Q4_1",
    "blk.0.attn_v": "Q5_0",
    "blk.0.attn_output": "Q5_1",
    "blk.0.ffn_gate": "Q8_0",
    "blk.0.ffn_up": "Q2_K",
    "blk.0.ffn_down": "Q3_K",
    "blk.1.attn_q": "Q4_K",
    "blk.1.attn_k": "Q5_K",
    "blk.1.attn_v": "F16",
    "blk.1.attn_output": "BF16",
    "blk.1.ffn_gate": "F32",
    "blk.1.ffn_up": "IQ4_XS",
    "blk.1.ffn_down": "Q8_0",
}
_NORMS: Final = ("output_norm", *(f"blk.{n}.{part}_norm" for n in range(LAYERS) for part in ("attn", "ffn")))


def tiny_model() -> bytes:
    """The file's content. Deterministic."""
    random = np.random.default_rng(1)
    infos, data, offset = [], [], 0
    for name, kind, shape, body in _tensors(random):
        infos.append(
            _string(f"{name}.weight") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        )
        data.append(_padded(body))
        offset += len(data[-1])
    fields = list(_fields())
    head = b"GGUF" + struct.pack("<IQQ", _VERSION, len(infos), len(fields))
    return _padded(head + b"".join(fields) + b"".join(infos)) + b"".join(data)


def _tensors(random: np.random.Generator) -> Iterator[tuple[str, int, tuple[int, ...], bytes]]:
    """Name, ggml's number of the type, shape (innermost first) and data of every tensor."""
    for name in _NORMS:
        yield name, _FLOATS["F32"], (WIDTH,), np.ones(WIDTH, "<f4").tobytes()
    for name, kind in TENSORS.items():
        rows = WIDTH if name.startswith("blk.") else VOCAB
        if kind in _FLOATS:
            yield name, _FLOATS[kind], (WIDTH, rows), _floats(random, kind, rows)
        else:
            yield name, _BLOCKS[kind].number, (WIDTH, rows), _blocks(random, _BLOCKS[kind], rows)


def _floats(random: np.random.Generator, kind: str, rows: int) -> bytes:
    weights = random.standard_normal((rows, WIDTH)).astype("<f4") / 16
    if kind == "BF16":
        return (weights.view("<u4") >> 16).astype("<u2").tobytes()
    return weights.astype("<f2" if kind == "F16" else "<f4").tobytes()


def _blocks(random: np.random.Generator, block: _Block, rows: int) -> bytes:
    packed = random.integers(0, 256, (rows * WIDTH // block.weights, block.size), np.uint8)
    for at, value in block.fields.items():
        packed[:, at : at + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)
    return packed.tobytes()


def _fields() -> Iterator[bytes]:
    """Metadata that llama.cpp requires of a Llama model with a byte-level vocabulary."""
    yield _field("general.architecture", _STRING, _string("llama"))
    sizes = {
        "block_count": LAYERS,
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "feed_forward_length": WIDTH,
        "attention.head_count": HEADS,
    }
    for name, size in sizes.items():
        yield _field(f"llama.{name}", _U32, struct.pack("<I", size))
    yield _field("llama.attention.layer_norm_rms_epsilon", _F32, struct.pack("<f", 1e-5))
    yield _field("tokenizer.ggml.model", _STRING, _string("gpt2"))
    yield _field("tokenizer.ggml.pre", _STRING, _string("default"))
    yield _field("tokenizer.ggml.tokens", _ARRAY, _strings(["Ċ", *(f"t{n}" for n in range(1, VOCAB))]))
    normal = struct.pack(f"<IQ{VOCAB}i", _I32, VOCAB, *([1] * VOCAB))
    yield _field("tokenizer.ggml.token_type", _ARRAY, normal)
    yield _field("tokenizer.ggml.merges", _ARRAY, _strings(["t 1"]))


def _field(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _strings(texts: list[str]) -> bytes:
    return struct.pack("<IQ", _STRING, len(texts)) + b"".join(map(_string, texts))


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)
