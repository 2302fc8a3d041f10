"""The bundled prompts: enough of each kind, all different."""

from collections import Counter

from loadgen.prompts import bundled


def test_every_kind_has_enough_prompts_and_all_differ() -> None:
    prompts = bundled()
    assert len(prompts) >= 200
    assert (
        len({prompt.prompt for prompt in prompts}) == len({prompt.id for prompt in prompts}) == len(prompts)
    )
    kinds = Counter(prompt.kind for prompt in prompts)
    assert set(kinds) == {"code", "maths", "chat", "summary", "creative"}
    assert min(kinds.values()) >= 36
    assert all(prompt.id.startswith(f"{prompt.kind}-") for prompt in prompts)
