"""Small tokenizers made on the spot, so that these tests need no model."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from services.gateway.chat_template import ChatTemplate
from services.gateway.tokenizer import TargetTokenizer, TokenTable
from shared.protocol.vocabulary import byte_level
from shared.protocol.vocabulary import sentencepiece as sentencepiece_bytes

STOP_ID = 0
HASH = "test-vocabulary"
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
CORPUS = [
    "the quick brown fox jumps over the lazy dog and the other dogs",
    "hello world, hello there, how are you today?",
    "die schöne Straße, l'été déjà passé, 東京都 日本語 привет мир",
    "🎉🎉 party 👩‍👩‍👧 family emoji 🇩🇪",
]


@cache
def byte_bpe() -> TargetTokenizer:
    """Byte-level BPE with 256 bytes, a few merges and three special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            show_progress=False,
            special_tokens=["<|end|>", "<|start|>", "<|pad|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    vocabulary = tokenizer.get_vocab()
    bytes_of = {token: byte_level(text) for text, token in vocabulary.items()}
    return TargetTokenizer(
        tokenizer, TokenTable(HASH, len(vocabulary), bytes_of), ChatTemplate(TEMPLATE, {}), (STOP_ID,)
    )


@cache
def sentencepiece() -> TargetTokenizer:
    """A SentencePiece-like vocabulary: raw-byte tokens, "▁" for spaces, one space stripped at the start."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁the", "▁dog", "dog", "s", "é", "▁é", "東", "\ufffd", "a", "b"]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True)
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    bytes_of = {token: sentencepiece_bytes(piece) for token, piece in enumerate(pieces)}
    return TargetTokenizer(tokenizer, TokenTable("sentencepiece", len(pieces), bytes_of), None, (2,))
