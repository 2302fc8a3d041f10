"""A scenario's load: the options of `loadgen run` by name, as a plan of requests for modelled targets."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from loadgen.run.options import RunOptions, flags
from loadgen.run.plan import INPUT_ERRORS, OptionError, make_plan
from loadgen.run.runner import Endpoint, RunPlan
from shared.scenario.scenario import ScenarioError

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
SIMULATED: Final = Endpoint("simulated")
TEXTS: Final = ("stages", "prompts", "prompt_tokens", "answer_tokens", "goodput")
LISTS: Final = ("group", "device", "assertions")
_options: Final = TypeAdapter(RunOptions)


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
        raise ScenarioError(f"load: {error}") from None


def _as_option(field: str, value: Any) -> Any:
    """A value as the command line would give it: YAML reads `64` as a number, and one group is no list."""
    if field in TEXTS and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return [value] if field in LISTS and isinstance(value, str) else value
