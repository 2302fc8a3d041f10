"""Loading the tokenizer from the target's folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from services.gateway.chat_template import ChatTemplate, TemplateRefused
from services.gateway.tokenizer import load_tokenizer, modelled_tokenizer
from shared.compute.modelled import STOP, modelled_vocabulary
from shared.runtime.service import BadFile

CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  Hé 🎉\n\ttabs "}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "<|im_end|> in a text"},
    ],
]


def write_folder(folder: Path, **config: Any) -> Path:
    """A target's folder with a tokenizer of single bytes and an <eos>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate([*alphabet, "<eos>", "<bos>"])}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>", "<bos>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    declared = {"eos_token": {"content": "<eos>"}, "bos_token": "<bos>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    (folder / "config.json").write_text(json.dumps({"vocab_size": 300, "eos_token_id": 256}))
    return folder


def test_a_folder(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(
        write_folder(tmp_path, chat_template="{{ bos_token }}{{ messages[0].content }}")
    )
    assert tokenizer.stop_ids == (256,)
    assert tokenizer.hidden == {256, 257}
    assert tokenizer.vocabulary.size == 258
    ids = tokenizer.encode_chat([{"role": "user", "content": "é"}])
    assert ids[0] == 257
    assert [tokenizer.token_bytes(token) for token in ids[1:]] == [b"\xc3", b"\xa9"]
    assert tokenizer.token_text(ids[1]) == "bytes:\\xc3"


def test_every_declared_end_is_a_stop(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, 7]}))
    assert load_tokenizer(folder).stop_ids == (7, 256)


def test_templates_in_their_places(tmp_path: Path) -> None:
    message = [{"role": "user", "content": "x"}]
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    folder = write_folder(tmp_path, chat_template=named)
    assert load_tokenizer(folder).decode(load_tokenizer(folder).encode_chat(message)) == "yes"
    (folder / "chat_template.jinja").write_text("file")
    assert load_tokenizer(folder).decode(load_tokenizer(folder).encode_chat(message)) == "file"
    plain = write_folder(tmp_path)
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(TemplateRefused, match="no chat template"):
        load_tokenizer(plain).encode_chat(message)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_broken_files_are_named(tmp_path: Path, name: str) -> None:
    (write_folder(tmp_path) / name).write_text("{")
    with pytest.raises(BadFile, match=name):
        load_tokenizer(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"nowhere.*OUTRIDER_MODEL_DIR"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('System role not supported') }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ messages[9].content }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_a_template_that_refuses_or_misbehaves(source: str) -> None:
    with pytest.raises(TemplateRefused):
        ChatTemplate(source, {}).render([{"role": "user", "content": "x"}])


def test_templates_may_mark_generations_and_loop() -> None:
    source = (
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% generation %}{{ m.content | tojson }}{% endgeneration %}{% endfor %}"
    )
    assert ChatTemplate(source, {}).render([{"role": "user", "content": "<é>"}] * 2) == '"<é>"'


def test_the_stand_in_speaks_bytes_and_words() -> None:
    tokenizer = modelled_tokenizer(1000)
    assert tokenizer.vocabulary.hash == modelled_vocabulary(1000)
    assert tokenizer.decode(tokenizer.encode("Hé 🎉")) == "Hé 🎉"
    assert tokenizer.decode([300, 999]) == " w300 w999"
    assert tokenizer.stop_ids == (STOP,)
    assert tokenizer.encode_chat([{"role": "user", "content": "x"}])


@pytest.mark.model
@pytest.mark.parametrize("messages", CHATS)
def test_the_demo_model_reads_chats_as_transformers_does(
    models_dir: Path, messages: list[dict[str, str]]
) -> None:
    from transformers import AutoTokenizer

    folder = models_dir / "target"
    ours, theirs = load_tokenizer(folder, special_in_text=True), AutoTokenizer.from_pretrained(folder)
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    assert ours.encode_chat(messages) == expected["input_ids"]  # type: ignore[call-overload,index]
    for message in messages:
        assert ours.encode(message["content"]) == theirs(message["content"])["input_ids"]
    assert ours.vocabulary.size == len(theirs)
    assert ours.stop_ids == (theirs.eos_token_id,)
