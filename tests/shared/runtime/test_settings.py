"""Settings name what is wrong with them."""

from pathlib import Path

import pytest

from shared.runtime.settings import GatewaySettings, SchedulerSettings, SettingsError, VerifierSettings, load


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_are_loopback() -> None:
    settings = load(GatewaySettings)
    assert (settings.host, settings.port, settings.health_port) == ("127.0.0.1", 8000, 9101)


def test_environment_beats_env_file(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / ".env").write_text("OUTRIDER_K=3\nOUTRIDER_BATCHES=5\n")
    monkeypatch.setenv("OUTRIDER_K", "7")
    settings = load(SchedulerSettings)
    assert (settings.k, settings.batches) == (7, 5)


def test_a_named_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "core.env").write_text("OUTRIDER_KV_TOKENS=512\n")
    assert load(VerifierSettings, str(tmp_path / "core.env")).kv_tokens == 512


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("OUTRIDER_K", "65", "less than or equal to 64"), ("OUTRIDER_KAY", "4", "no such setting")],
)
def test_bad_settings_are_named(name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"{name}.*{words}"):
        load(SchedulerSettings)


def test_an_unknown_name_in_the_env_file_is_an_error(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("OUTRIDER_POLICEY=fixed-k\n")
    with pytest.raises(
        SettingsError, match=r"OUTRIDER_POLICEY: no such setting; known are .*OUTRIDER_POLICY"
    ):
        load(SchedulerSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_MESSAGES", "0"),
        ("MAX_MESSAGES", "65537"),
        ("MAX_PROMPT_CHARS", "-1"),
        ("MAX_LONG_REQUESTS", "0"),
        ("MAX_LONG_REQUESTS", "4097"),
        ("MAX_CONNECTIONS", "15"),
        ("MAX_CONNECTIONS", "60001"),
        ("HEADER_TIMEOUT_S", "0"),
        ("IDLE_TIMEOUT_S", "0"),
        ("WRITE_TIMEOUT_S", "86401"),
        ("KEEPALIVE_S", "0"),
    ],
)
def test_bounds_of_the_gateway_have_bounds(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"OUTRIDER_{name}", value)
    with pytest.raises(SettingsError, match=f"OUTRIDER_{name}='{value}'"):
        load(GatewaySettings)


def test_no_client_is_unbounded_by_default() -> None:
    settings = load(GatewaySettings)
    bounds = (
        settings.max_connections,
        settings.max_messages,
        settings.max_long_requests,
        settings.cors_origins,
    )
    assert bounds == (4096, 2048, 64, "")
    times = (
        settings.header_timeout_s,
        settings.idle_timeout_s,
        settings.write_timeout_s,
        settings.keepalive_s,
    )
    assert times == (10.0, 75.0, 30.0, 10.0)
