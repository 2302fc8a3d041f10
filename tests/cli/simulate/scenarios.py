"""Scenario files of a few devices, for tests."""

from pathlib import Path

PLAIN = """
about: three devices
devices: [{count: 3, alpha: 0.8, draft: 5 ms, link: {delay: 2 ms}}]
policies: [{policy: fixed-k, k: 2}, greedy-batch]
"""
LOADED = f"{PLAIN}load: {{rate: 4, duration: 5, prompt-tokens: 32, answer-tokens: 8, goodput: 'ttft:500 tpot:100'}}\n"


def written(folder: Path, text: str = LOADED, name: str = "small") -> Path:
    """A scenario file with this text."""
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path
