"""The packed benchmark: its cells, its comparison, its stopwatches and its hash of the measured code."""

from pathlib import Path

import pytest

from cli.bench.verifier.packed import cells, code_hash, compared, shares
from loadgen.measuring.fixed_pass import FixedPass, cache_context
from services.verifier.torch_target import TorchTarget
from shared.speculative.params import SamplingParams
from tests.services.verifier.tiny import VOCAB, build, configs


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


def test_a_pass_s_time_is_that_of_its_parts() -> None:
    """The stopwatches are where a verifier's pass calls linear layers, attention and the draw."""
    model = build(configs()["llama"])
    target = TorchTarget(model, vocabulary="tiny", vocab=VOCAB, kv_tokens=512, page_tokens=4)
    sampling = SamplingParams(seed=1, vocab=VOCAB, temperature=0.7)
    cache_context(target, "s", range(3, 35), sampling, room=4)
    one = FixedPass(target, ["s"], [[3, 4, 5, 6]], 32, lambda row: sampling)
    linears = [module for module in model.modules() if type(module).__name__.endswith("Linear")]
    measured = shares(linears, (lambda: [c.tokens[0] for c in one.run()], one.reset))
    assert min(measured.values()) > 0
    assert sum(measured.values()) == pytest.approx(1)


def test_the_hash_is_of_the_verifier_s_code(tmp_path: Path) -> None:
    """Results of an older verifier are not resumed."""
    file = tmp_path / "services" / "verifier" / "head.py"
    file.parent.mkdir(parents=True)
    file.write_text("a = 1")
    before = code_hash(tmp_path)
    file.write_text("a = 2")
    assert code_hash(tmp_path) != before
