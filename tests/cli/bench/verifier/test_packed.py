"""The packed benchmark's pure parts: its cells, its comparison and its hash of the measured code."""

from pathlib import Path

import pytest

from cli.bench.verifier.packed import cells, code_hash, compared


def test_cells_are_rows_by_tokens_and_mixed() -> None:
    by_name = {cell.name: cell.counts for cell in cells(quick=False)}
    assert by_name["4 x 8"] == (8, 8, 8, 8)
    assert by_name["4 x mixed"] == (1, 3, 6, 8)
    assert by_name["8 x mixed"] == (1, 2, 3, 4, 5, 6, 7, 8)
    assert len(by_name) == 4 * 3 + 3


def test_worked_comparison() -> None:
    result = compared([1.0, 1.1, 0.9, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0, 2.0])
    assert result["packed_ms"] == 1000
    assert result["padded_ms"] == 2000
    assert result["ratio"] == pytest.approx(0.5)
    low, high = result["ratio_95"]
    assert 0.45 <= low <= 0.5 <= high <= 0.55


def test_the_hash_is_of_the_verifier_s_code(tmp_path: Path) -> None:
    """Results of an older verifier are not resumed."""
    file = tmp_path / "services" / "verifier" / "head.py"
    file.parent.mkdir(parents=True)
    file.write_text("a = 1")
    before = code_hash(tmp_path)
    file.write_text("a = 2")
    assert code_hash(tmp_path) != before
