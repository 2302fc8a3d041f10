"""An invalid broker address is an error that names the setting and shows no password."""

import pytest

from shared.runtime.connect import connect
from shared.runtime.settings import GatewaySettings, SettingsError


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("notaurl", "begin with redis:// or rediss://"),
        ("redis://u:secret@h:70000", "ports go from 1 to 65535"),
        ("redis://u:secret@h/zero", "number of the database"),
        ("redis://u:secret@h?no_such=1", r"options after the \? are not understood: .*no_such"),
        ("redis://u:secret@h?socket_timeout=x", "Invalid value for"),
    ],
)
def test_a_wrong_address_names_the_setting(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"OUTRIDER_BROKER_URL: .*{words}") as raised:
        connect(GatewaySettings(broker_url=url))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p@h:1/3?ssl_cert_reqs=none"])
def test_a_right_one_is_taken_and_nothing_is_connected(url: str) -> None:
    connect(GatewaySettings(broker_url=url))
