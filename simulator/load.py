"""A scenario's load: the options of `loadgen run` by name, as a plan of requests for modelled targets."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from loadgen.request import ChatRequest
from loadgen.run.options import RunOptions, flags
from loadgen.run.plan import INPUT_ERRORS, OptionError, make_plan
from loadgen.run.runner import ClosedLoop, Endpoint, RunPlan
from loadgen.workload.schedule import generate_requests
from shared.scenario.scenario import ScenarioError
from simulator.scenario import Core, SimulatedScenario

# Options that a simulation has no use for: it has no endpoint, and its result goes where `outrider simulate` says.
REFUSED: Final = (
    "url",
    "api_key",
    "api_key_file",
    "model",
    "plain",
    "metrics",
    "broker",
    "timeout_s",
    "stall_s",
    "retries",
    "max_dispatch_ms",
    "label",
    "out",
    "quiet",
)
SIMULATED: Final = Endpoint("simulated", metrics=("of the simulated processes",))
CHECKED: Final = 10_000  # requests of a closed loop whose lengths are checked before the run
TEXTS: Final = ("stages", "prompts", "prompt_tokens", "answer_tokens", "goodput")
LISTS: Final = ("group", "device", "assertions")
_options: Final = TypeAdapter(RunOptions)


def plan_of(scenario: SimulatedScenario, seed: int, model: str) -> RunPlan | None:
    """The plan of a scenario, checked against its devices and its model; None = a user per device.

    Raises ScenarioError that names the field.
    """
    if scenario.load is None:
        _check_length("workload", scenario.workload.prompt, scenario.workload.answer, scenario.core)
        return None
    plan = load_plan(scenario.load, seed, model)
    known = scenario.device_names()
    for device in sorted(set(plan.workload.devices) - set(known)):
        raise ScenarioError(f"load.device: no device {device!r}; there are {known[0]} … {known[-1]}")
    for request in _requests(plan):
        _check_length(f"load: request {request.id}", len(request.prompt), request.max_tokens, scenario.core)
    return plan


def _requests(plan: RunPlan) -> Iterable[ChatRequest]:
    """Requests of a plan: all of a schedule, the first of a closed loop, whose number may be open."""
    if isinstance(plan.load, ClosedLoop):
        return islice(
            generate_requests(plan.workload, plan.seed), min(CHECKED, plan.load.requests or CHECKED)
        )
    return (planned.request for planned in plan.load)


def _check_length(where: str, prompt: int, answer: int, core: Core) -> None:
    for field, room in (("context", core.context), ("kv_tokens", core.kv_tokens)):
        if prompt + answer > room:
            raise ScenarioError(
                f"{where}: a prompt of {prompt} and an answer of {answer} tokens do not fit core.{field}, {room}"
            )


def load_plan(load: Mapping[str, Any], seed: int, model: str) -> RunPlan:
    """The plan of a scenario's `load`. seed: unless the load gives one. Raises ScenarioError that names the field."""
    names = {flag.removeprefix("--"): field for field, flag in flags().items() if field not in REFUSED}
    values: dict[str, Any] = {}
    for given, value in load.items():
        name = given.replace("_", "-")
        if name not in names:
            raise ScenarioError(f"load.{given}: no such option; there are {', '.join(sorted(names))}")
        values[names[name]] = _as_option(names[name], value)
    if values.get("prompts", "synthetic") != "synthetic":
        raise ScenarioError(
            "load.prompts: a modelled target reads token ids; leave it out for synthetic prompts"
        )
    try:
        options = _options.validate_python({"seed": seed, **values, "prompts": "synthetic"})
        return make_plan(options, SIMULATED, model)
    except ValidationError as error:
        by_field = {field: name for name, field in names.items()}
        problems = (
            f"load.{by_field.get(str(part['loc'][0]), part['loc'][0])}: {part['msg']}"
            for part in error.errors(include_url=False)
        )
        raise ScenarioError("; ".join(problems)) from None
    except (OptionError, *INPUT_ERRORS) as error:
        raise ScenarioError(f"load: {re.sub(r'--(?=[a-z])', '', str(error))}") from None


def _as_option(field: str, value: Any) -> Any:
    """A value as the command line would give it: YAML reads `64` as a number, and one group is no list."""
    if field in TEXTS and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return [value] if field in LISTS and isinstance(value, str) else value
