"""The gateway process: invalid settings, and a successor with its name."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.gateway.gateway import Gateway, tokenizer_of
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.compute.compute import InlineCompute
from shared.compute.modelled import modelled_vocabulary
from shared.protocol.messages import Heartbeat
from shared.runtime.ids import Ids
from shared.runtime.presence import Superseded
from shared.runtime.settings import GatewaySettings, SettingsError
from tests.services.gateway.stack import running_stack, settings_for_tests
from tests.services.gateway.tokenizers_for_tests import byte_bpe

ROOT = Path(__file__).resolve().parents[3]


def gateway(**settings: object) -> Gateway:
    broker = MemoryBroker(MemoryServer())
    return Gateway(
        settings_for_tests(**settings), broker, InlineCompute(), Ids(1), CollectorRegistry(), byte_bpe()
    )


def test_it_does_not_start_open_to_the_world() -> None:
    with pytest.raises(SettingsError, match="OUTRIDER_API_KEYS_FILE"):
        gateway(host="0.0.0.0")  # noqa: S104


def test_the_process_says_so_in_one_line() -> None:
    env = {**os.environ, "OUTRIDER_HOST": "0.0.0.0", "PYTHONPATH": str(ROOT)}  # noqa: S104
    run = subprocess.run(
        [sys.executable, "-m", "services.gateway"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "OUTRIDER_API_KEYS_FILE" in run.stderr


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=str(port)):
            await gateway(port=port).run(asyncio.Event())


async def test_a_newer_gateway_takes_the_name() -> None:
    async with running_stack() as stack:
        generation = await stack.link.broker.presence.next_generation()
        await stack.link.broker.presence.beat(Heartbeat("gateway", "gateway", generation), 5.0)
        with pytest.raises(ExceptionGroup) as caught:
            await stack.running
        assert caught.group_contains(Superseded)


async def test_health_and_metrics_have_a_port_of_their_own(unused_tcp_port: int) -> None:
    async with running_stack(health_port=unused_tcp_port) as stack:
        for path, expected in (
            ("healthz", "tick"),
            ("readyz", "ready"),
            ("metrics", "outrider_gateway_sessions"),
        ):
            async with stack.client.get(f"http://127.0.0.1:{unused_tcp_port}/{path}") as response:
                assert response.status == 200
                assert expected in await response.text()
        await stack.link.broker.records.put("or:{s0}:deployment", {})
        stack.link.away = True
        stack.gateway._watch.up = False
        async with stack.client.get(f"http://127.0.0.1:{unused_tcp_port}/readyz") as response:
            assert response.status == 503


async def test_the_settings_limit_the_time_for_headers_and_between_requests() -> None:
    async with running_stack(header_timeout_s=0.1) as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
        writer.write(b"GET / HT")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")
        writer.close()
    async with running_stack(idle_timeout_s=0.1) as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200 ")
        writer.close()


def test_without_a_model_folder_the_stand_in_is_used() -> None:
    assert tokenizer_of(GatewaySettings(model_dir="")).vocabulary.hash == modelled_vocabulary(49152)


def test_sessions_need_no_http() -> None:
    program = "import sys, services.gateway.sessions; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
