"""Errors of settings name the setting and the problem."""

from pathlib import Path

import pytest

from shared.runtime.settings import (
    GatewaySettings,
    SchedulerSettings,
    SettingsError,
    VerifierSettings,
    is_set,
    isolated,
    load,
)


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


def test_simulated_services_ignore_the_environment(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / ".env").write_text("OUTRIDER_BATCHES=5\n")
    monkeypatch.setenv("OUTRIDER_MOVE_TIMEOUT_S", "0.3")
    settings = isolated(SchedulerSettings, k=7)
    assert (settings.k, settings.batches, settings.move_timeout_s) == (7, 2, 2.0)


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


@pytest.mark.parametrize("name", ["outrider_policey", "Outrider_Policey", "export OUTRIDER_POLICEY"])
def test_a_misspelt_name_is_an_error_in_every_form(name: str, empty_folder: Path) -> None:
    (empty_folder / ".env").write_text(f"{name}=fixed-k\n")
    with pytest.raises(
        SettingsError, match=r"(?i)OUTRIDER_POLICEY: no such setting; known are .*OUTRIDER_POLICY"
    ):
        load(SchedulerSettings)


def test_a_misspelt_name_in_lower_case_is_an_error_in_the_environment_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("outrider_kay", "4")
    with pytest.raises(SettingsError, match="outrider_kay: no such setting"):
        load(SchedulerSettings)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffOUTRIDER_K=3\n",
        "export OUTRIDER_K=3\n",
        "outrider_k=3\n",
        "\ufeff# comment\n\n  export OUTRIDER_K = '3'  # three\n",
        "OUTRIDER_K=3\r\n",
    ],
)
def test_every_form_of_an_env_file_is_read(text: str, empty_folder: Path) -> None:
    (empty_folder / ".env").write_text(text, encoding="utf-8", newline="")
    assert load(SchedulerSettings).k == 3
    assert is_set("K")
    assert not is_set("POLICY")


def test_a_misspelt_name_behind_a_byte_order_mark_is_an_error(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("\ufeffOUTRIDER_KAY=3\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"\.env: OUTRIDER_KAY: no such setting"):
        load(SchedulerSettings)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"OUTRIDER_K=3\n# caf\xe9\n", r"\.env, line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("OUTRIDER_K=3\n".encode("utf-16"), r"\.env, line 1: byte 0xff is not UTF-8"),
        (b"\n\nOUTRIDER_K='3\n", r"\.env, line 3: cannot be read; write NAME=value"),
        (
            b"OUTRIDER_BATCHES=2\n\nOUTRIDER_K\n",
            r"\.env, line 3: OUTRIDER_K has no value; write NAME=value",
        ),
        (b"OUTRIDER_K=3\noutrider_k=4\n", r"\.env: OUTRIDER_K and outrider_k are the same setting"),
    ],
)
def test_an_env_file_that_cannot_be_read_names_file_and_line(
    raw: bytes, words: str, empty_folder: Path
) -> None:
    (empty_folder / ".env").write_bytes(raw)
    with pytest.raises(SettingsError, match=words) as raised:
        load(SchedulerSettings)
    assert "\n" not in str(raised.value)


def test_variables_of_the_command_line_are_known_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_API_KEY", "secret")
    load(SchedulerSettings)
    monkeypatch.setenv("outrider_cache", "x")
    with pytest.raises(SettingsError, match="outrider_cache: no such setting"):
        load(SchedulerSettings)


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"core\.env: no such file"):
        load(VerifierSettings, str(tmp_path / "core.env"))
