"""Ports of a local stack must be free and distinct; errors name the option."""

import socket
from pathlib import Path

import pytest

from cli.command.errors import CommandError
from cli.stack.ports import HOST, Claim, Ports, check
from cli.stack.specs import StackOptions, claims, specs


def test_every_port_is_claimed_with_its_option(tmp_path: Path) -> None:
    options = StackOptions(modelled=True, draft_workers=2, ports=Ports(7001, 7002, 7003), state_dir=tmp_path)
    health = [Claim(HOST, port, "--health-port") for port in range(7003, 7008)]
    assert claims(options) == [Claim(HOST, 7001, "--port"), Claim(HOST, 7002, "--broker-port"), *health]
    pages = {spec.name: spec.ready_url for spec in specs(options) if spec.ready_url}
    assert pages == {
        name: f"http://{HOST}:{port}/readyz"
        for name, port in {
            "gateway": 7003,
            "scheduler": 7004,
            "verifier": 7005,
            "draft-worker-0": 7006,
            "draft-worker-1": 7007,
        }.items()
    }


def test_only_devices_are_devices(tmp_path: Path) -> None:
    options = StackOptions(modelled=True, draft_workers=1, state_dir=tmp_path, devices=("--scenario", "x"))
    assert [spec.name for spec in specs(options) if spec.device] == ["draft-worker-0", "devices"]


def test_free_ports_are_free_and_zero_is_replaced_by_one() -> None:
    ports = Ports.free(12)
    check(
        [
            Claim(HOST, port, "--p")
            for port in (ports.gateway, ports.broker, *range(ports.health, ports.health + 12))
        ]
    )
    filled = Ports(0, 7002, 0).filled(4)
    assert filled.broker == 7002
    assert 0 not in (filled.gateway, filled.health)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=rf"port {port} of {HOST}: is in use; .* --broker-port"):
            check([Claim(HOST, port, "--broker-port")])
    check([Claim(HOST, port, "--broker-port")])


def test_a_port_of_a_connection_that_just_closed_is_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection((HOST, port))
        accepted, _ = server.accept()
        accepted.close()  # this side closes first and keeps the port for a while
        client.close()
    check([Claim(HOST, port, "--port")])


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ([(65_536, "--health-port")], "--health-port: port 65536 is needed, but the highest is 65535"),
        ([(0, "--port")], "--port: port 0"),
        ([(7001, "--port"), (7001, "--health-port")], "needed twice, by --port and by --health-port"),
    ],
)
def test_ports_that_cannot_be_are_named(ports: list[tuple[int, str]], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        check([Claim(HOST, port, option) for port, option in ports])
