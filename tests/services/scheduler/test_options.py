"""What the scheduler's settings name, and errors that name the setting and the fix."""

from pathlib import Path

import pytest

from services.scheduler.options import bands_of, estimates_of, policy_of, window_of
from shared.runtime.settings import SchedulerSettings, SettingsError, isolated


def settings(**given: object) -> SchedulerSettings:
    return isolated(SchedulerSettings, **given)


def test_what_is_named_is_made() -> None:
    assert policy_of(settings(policy="cyclic-k", k=3)).k == 3
    assert window_of(settings()) is None
    window = window_of(settings(window="threshold"))
    assert window is not None
    assert window.name == "threshold"
    assert bands_of(settings(cells="c1=256 kbit, c2 = 20 MHz", bandwidth="minmax")) == {
        "c1": 256e3,
        "c2": 20e6,
    }
    assert bands_of(settings(bandwidth="none")) == {}
    assert estimates_of(settings()).prior is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"policy": "mine"}, "OUTRIDER_POLICY='mine': no such policy"),
        ({"cells": "c1"}, "OUTRIDER_CELLS='c1': 'c1': give a cell and its band, like c1=256 kbit"),
        ({"cells": "c1=0 kbit"}, "cell 'c1': one bandwidth of more than 0"),
        ({"cells": "c1=nan kbit"}, "cell 'c1': one bandwidth"),
        ({"cells": "c1=2 ms"}, "cell 'c1': one bandwidth"),
        ({"cells": "c1=1 kbit, c1=2 kbit"}, "cell 'c1': it is there twice"),
        ({"cells": "a b=1 kbit"}, "give a cell and its band"),
        ({"bandwidth": "joint"}, "OUTRIDER_BANDWIDTH=joint: there is no cell to share; give OUTRIDER_CELLS"),
    ],
)
def test_what_cannot_be_is_refused_with_the_setting(given: dict[str, str], says: str) -> None:
    option = policy_of if "policy" in given else bands_of
    with pytest.raises(SettingsError) as raised:
        option(settings(**given))
    assert says in str(raised.value)


def test_a_profile_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="OUTRIDER_PROFILE"):
        estimates_of(settings(profile=str(tmp_path / "none.json")))


def test_an_unknown_window_is_refused() -> None:
    with pytest.raises(SettingsError, match="OUTRIDER_WINDOW"):
        window_of(settings(window="awk"))
