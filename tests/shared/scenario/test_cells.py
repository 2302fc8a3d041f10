"""Cells in scenario files: what they come to, and what bad ones get."""

from pathlib import Path

import pytest

from shared.scenario.scenario import ScenarioError, read_scenario
from simulator.scenario import read_simulated

GOOD = """
about: a cell
cells: [{id: c1, bandwidth: 256 kbit}, {id: c2, bandwidth: 2 MHz, sharing: shares, duplex: true}]
devices:
  - {count: 3, alpha: 0.8, draft: 5 ms, cell: c1, payload_bits_per_token: 100}
  - {count: 2, alpha: 0.8, draft: 5 ms, cell: c2, eta: 0.4..4, share: 0.25}
  - {alpha: 0.8, draft: 5 ms, cell: c2, eta: 2}
  - {alpha: 0.8, draft: 5 ms, link: {bandwidth: 500 kbit}}
policies: [fixed-k]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "cells.yaml"
    path.write_text(text)
    return path


def test_devices_are_in_their_cells(tmp_path: Path) -> None:
    scenario = read_scenario(written(tmp_path, GOOD))
    fleet = scenario.fleet(40.0)
    assert [device.cell for device in fleet] == ["c1"] * 3 + ["c2"] * 3 + [""]
    assert [device.payload_bits_per_token for device in fleet] == [100] * 3 + [0] * 4
    assert all(0.4 <= device.eta <= 4 for device in fleet[3:5])
    assert fleet[3].eta != fleet[4].eta
    cells = scenario.cells_of(fleet)
    assert (cells["c1"].band_hz, cells["c1"].sharing, len(cells["c1"].bands)) == (256_000, "equal", 1)
    assert (cells["c2"].band_hz, cells["c2"].sharing, len(cells["c2"].bands)) == (2e6, "shares", 2)
    for device in fleet[3:6]:
        cells["c2"].join(device.name, device.eta, 0.0)
    assert list(cells["c2"].widths().values()) == pytest.approx([0.5e6, 0.5e6, 1e6])


def test_a_scenario_without_cells_keeps_its_devices(tmp_path: Path) -> None:
    fleet = read_scenario(written(tmp_path, GOOD)).fleet(40.0)
    plain = GOOD.replace("eta: 0.4..4, share: 0.25", "eta: 2").replace(", payload_bits_per_token: 100", "")
    other = read_scenario(written(tmp_path, plain)).fleet(40.0)
    assert [device.seed for device in fleet] == [device.seed for device in other]


def test_a_cell_s_devices_are_in_one_process(tmp_path: Path) -> None:
    scenario = read_scenario(written(tmp_path, GOOD))
    fleet = scenario.fleet(40.0)
    assert set(scenario.cells_of(fleet[:3])) == {"c1"}
    with pytest.raises(ScenarioError, match="cell c2: 1 of its 3 devices are in this process; emulate all"):
        scenario.cells_of(fleet[:4])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            ", bandwidth: 256 kbit",
            "",
            "cells.0.bandwidth: one bandwidth of more than 0, like 256 kbit (a second) or 20 MHz; it is",
        ),
        ("256 kbit", "-1 kbit", "cells.0.bandwidth: one bandwidth of more than 0, like 256 kbit"),
        ("256 kbit", "0 kbit", "cells.0.bandwidth: one bandwidth of more than 0"),
        ("256 kbit", "1..2 MHz", "cells.0.bandwidth: one bandwidth of more than 0"),
        ("256 kbit", "3 ms", "cells.0.bandwidth: one bandwidth of more than 0"),
        ("eta: 2", "eta: -2", "devices.2.eta: more than 0 bit/s/Hz, like 2 or 0.4..4; not '-2'"),
        ("eta: 2", "eta: 0", "devices.2.eta: more than 0"),
        ("eta: 2", "eta: .nan", "devices.2.eta: more than 0"),
        (", eta: 2", "", "devices.2.eta: it is missing, and cell c2 has its bandwidth in Hz; give bit/s/Hz"),
        ("cell: c1", "cell: c3", "devices.0.cell: no cell 'c3'; there are c1, c2"),
        ("cell: c1", "cell: [c1, c2]", "devices.0.cell: a device is in one cell; split the group"),
        ("id: c2", "id: c1", "cells.0.id: there are two cells 'c1'; give each an id of its own"),
        ("share: 0.25", "share: 0.6", "cells.1: the shares of its devices add up to 1.2; give at most 1"),
        ("share: 0.25", "share: -0.1", "devices.1.share: "),
        ("sharing: shares", "sharing: fair", "cells.1.sharing: Input should be 'equal', 'shares' or 'cont"),
        (
            "link: {bandwidth",
            "cell: c1, link: {bandwidth",
            "devices.3.link.bandwidth: cell c1 has the bandwidth; leave",
        ),
        ("link: {", "eta: 2, link: {", "devices.3.eta: only devices in a cell have one; name the cell"),
        ("count: 3", "count: 5000", "cells.0: 5000 devices; a cell takes at most 4096, so give several"),
        ("bits_per_token: 100", "bits_per_token: -1", "devices.0.payload_bits_per_token: "),
    ],
)
def test_bad_cells_name_the_field_and_what_to_do(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    for read in (read_scenario, read_simulated):
        with pytest.raises(ScenarioError, match=r"cells\.yaml: ") as error:
            read(written(tmp_path, GOOD.replace(old, new)))
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_a_cell_that_is_not_given_says_how(tmp_path: Path) -> None:
    text = GOOD.replace("cells: [", "settle: 1 s # [")
    with pytest.raises(ScenarioError, match=r"devices\.0\.cell: no cell 'c1'; give cells, like \[\{id: c1"):
        read_scenario(written(tmp_path, text))
