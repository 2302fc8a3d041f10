"""Scenarios that cannot be simulated: the error names the file and the field."""

from pathlib import Path

import pytest

from shared.scenario.scenario import ScenarioError, read_scenario
from simulator.load import plan_of
from simulator.scenario import read_simulated

GOOD = """
about: two devices
devices: [{count: 2, alpha: 0.8, draft: 10 ms}]
policies: [fixed-k]
"""


def error_of(folder: Path, text: str) -> str:
    """What is wrong with the scenario of this text, or with its load."""
    path = folder / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as raised:
        plan_of(read_simulated(path), 1, "modelled")
    return str(raised.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "empty; a scenario has fields"),
        ("[1, 2]", "a list; a scenario has fields"),
        ("a: [b", "not YAML: "),
        (GOOD.replace("[{count: 2, alpha: 0.8, draft: 10 ms}]", "{count: 2}"), "devices: give a list"),
        (GOOD.replace("alpha: 0.8, ", ""), "devices.0: alpha or recording: give one of them"),
        (GOOD.replace("10 ms", "10"), "devices.0.draft: a time needs a unit"),
        (GOOD.replace("fixed-k", "fixed"), "policies.0.policy: no such policy; known are autoregressive"),
        (f"{GOOD}core: 4", "core: give fields, like {name: value}"),
        (f"{GOOD}core: {{verifers: 3}}", "core.verifers: no such field"),
        (f"{GOOD}core: {{hop: 1 verify}}", "core.hop: one time in ms or s"),
        (f"{GOOD}core: {{server: {{law: packed}}}}", "core.server.packed.beta_ms: it is missing"),
        (f"{GOOD}faults: {{at: 3 s}}", "faults: give a list"),
        (f"{GOOD}faults: [{{at: 3 s}}]", "faults.0: give kill, broker_away or delay"),
        (f"{GOOD}faults: [outage]", "faults.0: give kill, broker_away or delay"),
        (f"{GOOD}faults: [{{at: 3, kill: device-0}}]", "faults.0.at: seconds, like 3 s"),
        (f"{GOOD}faults: [{{at: 3 s, kill: device-0, back: 2 ms}}]", "faults.0.back: seconds, like 3 s"),
        (f"{GOOD}faults: [{{at: 3 s, broker_away: 2}}]", "faults.0.broker_away: seconds, like 3 s"),
        (f"{GOOD}faults: [{{at: 3 s, broker_away: 2 s, for: 2 s}}]", "faults.0.for: no such field"),
        (
            f"{GOOD}faults: [{{at: 3 s, kill: device-2}}]",
            "faults.0.kill: no process 'device-2'; there are scheduler, gateway-0, verifier-0, device-0 … 1",
        ),
        (f"{GOOD}faults: [{{at: 3 s, delay: 2}}]", "faults.0.delay: a time needs a unit"),
        (f"{GOOD}faults: [{{at: 3 s, delay: 1..2 ms}}]", "faults.0.delay: one time in ms or s"),
        (
            f"{GOOD}faults: [{{at: 3 s, delay: 2 ms, devices: 1}}]",
            "faults.0.devices: no group 1; there are 0 to 0",
        ),
        (f"{GOOD}load: 3", "load: give fields"),
        (f"{GOOD}load: {{rte: 1}}", "load.rte: no such option; there are answer-tokens, "),
        (f"{GOOD}load: {{url: x}}", "load.url: no such option"),
        (f"{GOOD}load: {{rate: fast}}", "load.rate: Input should be a valid number"),
        (f"{GOOD}load: {{rate: 0}}", "load: a rate of 0.0 requests/s: it must be more than 0"),
        (f"{GOOD}load: {{rate: 0.001, duration: 1}}", "load: no request arrives"),
        (f"{GOOD}load: {{rate: 1, concurrency: 2}}", "load: rate and concurrency: give only one of them"),
        (f"{GOOD}load: {{think: 1}}", "load: think applies to a closed loop: give concurrency as well"),
        (f"{GOOD}load: {{trace: /no/such.csv}}", "load: [Errno 2] No such file or directory: '/no/such.csv'"),
        (f"{GOOD}load: {{goodput: fast}}", "load: goodput 'fast': give ttft:MS"),
        (f"{GOOD}load: {{assert: speed<3}}", "load: assert speed < 3: unknown metric 'speed'"),
        (f"{GOOD}load: {{prompts: bundled}}", "load.prompts: a modelled target reads token ids"),
        (
            f"{GOOD}load: {{device: [device-1, device-2]}}",
            "load.device: no device 'device-2'; there are device-0 … device-1",
        ),
        (
            f"{GOOD}load: {{prompt-tokens: 8150, requests: 3}}",
            "load: request r000000: a prompt of 8150 and an answer of 64 tokens do not fit core.context, 8192",
        ),
        (
            f"{GOOD}load: {{concurrency: 1, answer-tokens: 9000, requests: 3}}",
            "a prompt of 128 and an answer of 9000 tokens do not fit core.context, 8192",
        ),
        (
            f"{GOOD}workload: {{prompt: 9000}}",
            "workload: a prompt of 9000 and an answer of 384 tokens do not fit",
        ),
        (f"{GOOD}core: {{kv_tokens: 512}}\nworkload: {{prompt: 500}}", "do not fit core.kv_tokens, 512"),
    ],
)
def test_the_error_names_the_field(tmp_path: Path, text: str, error: str) -> None:
    assert error in error_of(tmp_path, text)


def test_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(f"{GOOD}core: 4", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"bad\.yaml: core: "):
        read_simulated(path)


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"about: \xff\n")
    with pytest.raises(ScenarioError, match="not UTF-8"):
        read_simulated(path)


def test_a_trace_without_requests_in_time_is_an_error(tmp_path: Path) -> None:
    trace = Path(__file__).resolve().parents[1] / "loadgen" / "traces" / "azure.csv"
    error = error_of(tmp_path, f"{GOOD}load: {{trace: {trace}, duration: 0}}")
    assert error == "load: no request arrives: the trace has none within duration"


def test_metrics_of_the_services_can_be_asserted(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(f"{GOOD}load: {{assert: verifier_utilisation<0.9}}", encoding="utf-8")
    plan = plan_of(read_simulated(path), 1, "modelled")
    assert plan is not None
    assert [str(assertion) for assertion in plan.criteria.assertions] == ["verifier_utilisation < 0.9"]


@pytest.mark.parametrize("section", ["load: {rate: 1}", "faults: [{at: 3 s, kill: device-0}]"])
def test_live_commands_refuse_what_only_a_simulation_knows(tmp_path: Path, section: str) -> None:
    path = tmp_path / "simulated.yaml"
    path.write_text(f"{GOOD}{section}\n", encoding="utf-8")
    name = section.partition(":")[0]
    with pytest.raises(ScenarioError, match=f"{name}: only `outrider simulate` knows {name}"):
        read_scenario(path)


def test_live_commands_refuse_a_controller_that_only_a_simulation_knows(tmp_path: Path) -> None:
    path = tmp_path / "simulated.yaml"
    path.write_text(GOOD.replace("[fixed-k]", "[{policy: fixed-k, window: oracle}]"), encoding="utf-8")
    read_simulated(path)
    with pytest.raises(ScenarioError, match="window: only `outrider simulate` knows oracle"):
        read_scenario(path)


def test_live_commands_ignore_the_modelled_core(tmp_path: Path) -> None:
    path = tmp_path / "simulated.yaml"
    path.write_text(f"{GOOD}core: {{verifiers: 3}}\n", encoding="utf-8")
    assert len(read_scenario(path).fleet(40.0)) == 2
