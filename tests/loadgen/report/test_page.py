"""The report's page: self-contained, and no text of a result becomes markup."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from loadgen.report import sections
from loadgen.report.page import build, page
from loadgen.results.result_file import write_result
from loadgen.results.result_reader import read_all
from tests.loadgen.report.html import Seen
from tests.loadgen.sample_results import write_run, write_sweep

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = """</script><script>alert("1")</script><img src=x onerror='alert(2)'>"""


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    out = tmp_path / "sub" / "report.html"
    build([write_run(tmp_path / "run.json", label="first try")], out)
    text = out.read_text(encoding="utf-8")
    seen = Seen(text)
    assert text.count("plotly.js v") == 1
    assert seen.addresses == []
    assert seen.tags.count("script") == 3
    assert "default-src &#39;none&#39;; script-src &#39;sha256-" in text
    assert "first try" in seen.text
    assert json.loads((tmp_path / "sub" / "report.trace.json").read_text())["traceEvents"]


def test_no_string_of_a_result_becomes_markup(tmp_path: Path) -> None:
    """A page whose every string is hostile has the elements and texts of one with harmless strings."""
    results = {
        word: _results(tmp_path / folder, word) for word, folder in ((HOSTILE, "bad"), ("word", "good"))
    }
    texts = {word: page(read_all(paths), "0", [word]) for word, paths in results.items()}
    hostile, harmless = Seen(texts[HOSTILE]), Seen(texts["word"])
    assert hostile.tags == harmless.tags
    assert hostile.addresses == []
    assert hostile.tags.count("script") == 3
    assert "img" not in hostile.tags
    assert hostile.text.count(HOSTILE) > 100
    in_json = json.dumps(HOSTILE)[1:-1]  # as the settings show a list
    assert hostile.prose.replace(HOSTILE, "word").replace(in_json, "word") == harmless.prose
    data = texts[HOSTILE].partition('id="charts">')[2].partition("</script>")[0]
    assert "<" not in data  # no label ends its script element
    labels = json.dumps(json.loads(data))
    assert "&lt;script&gt;" in labels
    assert "<script" not in labels
    assert "<img" not in labels  # plotly reads a few tags in labels


def _results(folder: Path, word: str) -> list[Path]:
    """Two runs and a sweep, with `word` for every string that a server, a user or a file can choose."""
    folder.mkdir()
    runs = [
        write_run(folder / "a.json", policy="x"),
        write_run(folder / "b.json", with_spans=False, policy="y"),
    ]
    sweep = write_sweep(folder / "s.json")
    for path in (*runs, sweep):
        found = json.loads(path.read_text())
        kept = {name: found[name] for name in ("kind", "requests_file") if name in found}
        found |= {"valid": False, "partial": True, "problems": ["x"], "failed_assertions": ["x"]}
        found["config"] |= {"label": "x", "goodput": "x", "group": ["x"], "metrics": {"x": "x"}}
        path.write_text(json.dumps(_spoiled(found, word) | kept))
        for lines in (path.with_suffix(".requests.jsonl"), path.with_suffix(".spans.jsonl")):
            if lines.exists():
                rows = [json.loads(line) for line in lines.read_text().splitlines()]
                lines.write_text("".join(json.dumps(_spoiled_row(row, word)) + "\n" for row in rows))
    return [*runs, sweep]


def _spoiled(value: Any, word: str) -> Any:
    """The same with `word` for every string, and appended to the names that results choose freely."""
    match value:
        case str():
            return word
        case list():
            return [_spoiled(one, word) for one in value]
        case dict():
            free = ("by_kind", "knees", "hardware", "metrics")
            return {
                name: {f"{key} {word}": _spoiled(one, word) for key, one in inner.items()}
                if name in free
                else _spoiled(inner, word)
                for name, inner in value.items()
            }
    return value


def _spoiled_row(row: dict[str, Any], word: str) -> dict[str, Any]:
    """A request's row or a span; of both only some values are drawn, so an error and a role stay what they are."""
    kept = {name: row[name] for name in ("role", "kind") if "role" in row}
    kept |= {name: "" for name in ("error", "fault") if row.get(name) == ""}
    spoiled: dict[str, Any] = _spoiled(row, word)
    return spoiled | kept


def test_templates_mark_only_our_own_text_as_safe() -> None:
    templates = (ROOT / "loadgen" / "report" / "templates").glob("*")
    marked = [name for file in templates for name in re.findall(r"(\S+)\s*\|\s*safe", file.read_text())]
    assert set(marked) == {"draw_script", "font", "plotly_script"}


@pytest.mark.parametrize(
    ("change", "message", "kind"),
    [
        ({"valid": False, "problems": ["nobody came"]}, "nobody came", "banner bad"),
        ({"failed_assertions": ["p99 < 5: it is 7"]}, "p99 < 5: it is 7", "banner bad"),
        ({"partial": True}, "ended early", "banner warn"),
        ({"class": "overloaded"}, "requests arrive faster than they end", "banner warn"),
    ],
)
def test_problems_are_banners(tmp_path: Path, change: dict[str, Any], message: str, kind: str) -> None:
    path = write_run(tmp_path / "run.json", with_spans=False)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    text = page(read_all([path]), "0")
    assert kind in text
    assert message in Seen(text).text


def test_metrics_that_were_not_measured_have_no_card_and_dashes_in_tables(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    write_result(path, "load", {}, {"figures": {"tau": float("nan"), "output_throughput": None}})
    run = read_all([path])[0]
    assert sections.cards(run) == []
    rows = sections.latencies(run).rows
    assert [row[0] for row in rows] == list(sections.LATENCIES)
    assert all(row[1:] == ["–"] * 6 for row in rows)
    assert Seen(page([run], "0")).text.count("–") >= 6 * len(rows)
