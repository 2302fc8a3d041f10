"""`python -m services.draft_worker` as a process: how it starts, refuses and stops."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from shared.broker.redis_broker import RedisBroker
from shared.protocol.keys import Keys
from shared.protocol.limits import PROTOCOL_VERSION
from shared.protocol.vocabulary import vocabulary_of_tokenizer_json

ROOT = Path(__file__).parents[3]


def start(redis_url: str, port: int = 0, **settings: str) -> subprocess.Popen[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("OUTRIDER_")}
    env |= {f"OUTRIDER_{key.upper()}": value for key, value in settings.items()}
    env |= {"OUTRIDER_BROKER_URL": redis_url, "OUTRIDER_NAME": "d", "OUTRIDER_HEALTH_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "services.draft_worker"],
        cwd=ROOT,
        env=env | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], timeout_s: float = 30) -> tuple[int, str, str]:
    """Exit code, log, last words. Killed when it does not end."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return process.returncode, out, err


async def deploy(redis_url: str, **fields: str) -> None:
    broker = RedisBroker(redis_url)
    await broker.run_id()  # the core's first call: without it there is none
    await broker.records.put(Keys().deployment, {"protocol": str(PROTOCOL_VERSION), "target": "T", **fields})
    await broker.close()


async def capacities(redis_url: str) -> list[int]:
    broker = RedisBroker(redis_url)
    try:
        return [beat.capacity for beat in await broker.presence.alive("draft_worker")]
    finally:
        await broker.close()


def test_without_a_model_it_says_which_setting_is_missing(redis_url: str) -> None:
    code, _, err = end(start(redis_url))
    assert (code, err) == (
        2,
        "draft_worker: OUTRIDER_DRAFT_MODEL is not set: the GGUF file of the draft model\n",
    )


def test_a_missing_model_file_is_named(redis_url: str) -> None:
    code, _, err = end(start(redis_url, draft_model="/nowhere/d.gguf"))
    assert (code, err) == (2, "draft_worker: /nowhere/d.gguf: no such file\n")


def test_another_vocabulary_ends_it_with_code_3(redis_url: str) -> None:
    asyncio.run(deploy(redis_url, vocabulary="other"))
    code, _, err = end(start(redis_url, drafter="modelled"))
    assert code == 3
    assert "the draft model's vocabulary is not that of T: hash modelled-49152 here, other there" in err


def test_it_joins_shows_metrics_and_drains_on_sigterm(redis_url: str) -> None:
    asyncio.run(deploy(redis_url, vocabulary="modelled-49152"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(redis_url, port=port, drafter="modelled")
    try:
        for _ in range(100):
            if asyncio.run(capacities(redis_url)) == [8]:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the device did not register")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            assert "outrider_device_drafted_tokens_total 24.0" in response.read().decode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as response:
            assert response.status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        code, _, err = end(process)
    assert code == 0
    assert "joined" in err
    assert "Traceback" not in err
    assert asyncio.run(capacities(redis_url)) == [0]


@pytest.mark.model
@pytest.mark.parametrize("at_hand", [False, True], ids=["digests", "tokenizer"])
def test_the_real_model_names_the_ids_that_differ(
    redis_url: str, models_dir: Path, tmp_path: Path, at_hand: bool
) -> None:
    """The target's tokenizer has another token 700; the device has its tokenizer.json at hand, or not."""
    tokenizer = (models_dir / "target" / "tokenizer.json").read_text()
    ours = vocabulary_of_tokenizer_json(models_dir / "target" / "tokenizer.json").entries[700].text.decode()
    spelt = f'"{ours.replace(" ", "Ġ")}": 700,'
    assert spelt in tokenizer
    (tmp_path / "tokenizer.json").write_text(tokenizer.replace(spelt, '"otherwise": 700,'))
    theirs = vocabulary_of_tokenizer_json(tmp_path / "tokenizer.json")
    asyncio.run(deploy(redis_url, **theirs.published()))
    settings: dict[str, Any] = {
        "draft_model": str(models_dir / "draft.gguf"),
        "model_dir": str(tmp_path) if at_hand else "",
    }
    code, _, err = end(start(redis_url, **settings))
    assert code == 3
    if at_hand:
        assert f"id 700 is {ours.encode()!r} here, b'otherwise' there" in err
    else:
        assert "they differ first among ids 512 to 767; ours there begin with 512: " in err
