"""Paths, links, commands and settings in the documents exist, and docs/protocol.md agrees with the code."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import typer

from cli.main import app
from shared.protocol import limits
from shared.protocol.keys import Keys
from shared.protocol.messages import MESSAGE_TYPES, Finish, ResyncReason, StagedRow, Status
from shared.runtime.settings import ALL, NOT_OURS, PREFIX

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
HISTORY = ROOT / "CHANGELOG.md"  # names what there was
BUILDS = sorted(
    [
        ROOT / "Makefile",
        ROOT / "docker-compose.yml",
        *ROOT.glob("services/*/Dockerfile"),
        ROOT / "loadgen" / "Dockerfile",
        *ROOT.glob("k8s/**/*.yaml"),
    ]
)
FOLDERS = (
    "cli",
    "simulator",
    "services",
    "shared",
    "loadgen",
    "tests",
    "docs",
    "scripts",
    "k8s",
    "scenarios",
    "observability",
)
PATH = re.compile(rf"(?<![\w./<-])(?:{'|'.join(FOLDERS)})/[\w./*<{{}}-]*")
MADE_LATER = ("k8s/base/access",)  # by `make k8s-access`; not committed
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def paths_in(content: str) -> Iterator[str]:
    """Paths of this repository in a text, without placeholders and without files that are created later."""
    for found in PATH.findall(content):
        path = found.rstrip(".")
        if not re.search(r"[<{}]", path) and not path.startswith(MADE_LATER):
            yield path


def code_in(content: str) -> Iterator[str]:
    """Code spans, and lines of code blocks without their comments."""
    fenced = False
    for line in content.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.split(" #")[0].strip()
        else:
            yield from re.findall(r"`([^`]+)`", line)


def table(heading: str) -> list[list[str]]:
    """Cells of the first table of docs/protocol.md below a heading, without its two header lines."""
    lines = PROTOCOL.split(f"{heading}\n")[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows[2:]


# --- what documents name ---


@pytest.mark.parametrize("file", [*PAGES, *BUILDS], ids=name_of)
def test_every_path_that_is_named_exists(file: Path) -> None:
    if file == HISTORY:
        return
    missing = [
        path
        for path in paths_in(text(file))
        if not (any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists())
    ]
    assert missing == []


@pytest.mark.parametrize("file", PAGES, ids=name_of)
def test_every_link_leads_to_a_file(file: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text(file))
    assert [target for target in targets if "://" not in target and not (file.parent / target).exists()] == []


@pytest.mark.parametrize("file", PAGES, ids=name_of)
def test_every_section_that_is_referred_to_exists(file: Path) -> None:
    content = " ".join(text(file).split())
    references = [(file, title) for title in re.findall(r"[Ss]ee (?:below, )?\"([^\"]+)\"", content)]
    for page, title in re.findall(r"\b(\w+\.md)\)?, \"([^\"]+)\"", content):
        references += [(other, title) for other in PAGES if other.name == page and "notes" not in other.parts]
    for page, title in references:
        assert re.search(rf"^#+ {re.escape(title)}$", text(page), re.MULTILINE), (
            f"{name_of(page)} has no {title!r}"
        )


@pytest.mark.parametrize("file", [*PAGES, *BUILDS, ROOT / ".ci" / "run"], ids=name_of)
def test_every_module_that_is_run_exists(file: Path) -> None:
    for module in re.findall(r"python3? -m ([\w.]+)", text(file)):
        name = module.rstrip(".")
        if name.split(".")[0] in FOLDERS:
            path = ROOT.joinpath(*name.split("."))
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
        else:
            assert importlib.util.find_spec(name.split(".")[0]), name


@pytest.mark.parametrize("file", [*PAGES, ROOT / ".ci" / "run"], ids=name_of)
def test_every_make_target_that_is_named_exists(file: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", text(ROOT / "Makefile"), re.MULTILINE))
    code = text(file).splitlines() if file.name == "run" else code_in(text(file))
    commands = [re.sub(r"\s+[A-Z]+=.*", "", line) for line in code]
    found = [
        names
        for line in commands
        for names in re.findall(r"(?:^|&& )make ((?:[a-z][a-z0-9-]*(?: |$))+)", line)
    ]
    named = {name for names in found for name in names.split()}
    assert named - targets == set()


@pytest.mark.parametrize("file", PAGES, ids=name_of)
def test_every_command_that_is_named_exists(file: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group's
    for line in code_in(text(file)):
        match = re.match(r"(?:\S*/)?outrider ([a-z-]+)(?: ([a-z-]+))?", line)
        if not match:
            continue
        command, below = match.groups()
        assert command in commands, line
        assert (
            not below or not hasattr(commands[command], "commands") or below in commands[command].commands
        ), line


@pytest.mark.parametrize("file", [*PAGES, *BUILDS], ids=name_of)
def test_every_setting_that_is_named_exists(file: Path) -> None:
    if file == HISTORY:
        return
    known = {PREFIX + name.upper() for cls in ALL for name in cls.model_fields} | NOT_OURS
    named = set(re.findall(rf"\b{PREFIX}[A-Z][A-Z_]*[A-Z]\b", text(file)))
    assert named - known == set()


@pytest.mark.parametrize("file", PAGES, ids=name_of)
def test_prose_is_wrapped_at_120_columns(file: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", text(file), flags=re.MULTILINE | re.DOTALL).splitlines()
    long = [line for line in prose if len(line) > 120]
    assert [line for line in long if not line.startswith(("|", "!", "    "))] == []


# --- docs/protocol.md ---


def test_the_protocol_version_is_the_code_s() -> None:
    assert re.findall(r"Protocol version: (\d+)\.", " ".join(PROTOCOL.split())) == [
        str(limits.PROTOCOL_VERSION)
    ]
    assert f"(`0x{limits.PROTOCOL_VERSION:02x}`)" in PROTOCOL


def test_messages_have_their_numbers_names_and_fields() -> None:
    documented = [(row[0], row[1], row[4]) for row in table("### Messages")]
    assert documented == [
        (str(int(tag)), cls.__name__, ", ".join(field.name for field in fields(cls)))
        for tag, cls in MESSAGE_TYPES.items()
    ]
    row = ", ".join(field.name for field in fields(StagedRow))
    assert f"A row of a StagedBatch: {row}." in " ".join(PROTOCOL.split())


def test_words_of_finish_status_and_reason_are_listed() -> None:
    prose = " ".join(PROTOCOL.split())
    assert (
        f"`finish`: empty (the session goes on), {', '.join(word for word in get_args(Finish) if word)}."
        in prose
    )
    assert f"`status` of a verdict: {', '.join(get_args(Status))}." in prose
    assert f"`reason` of a resync: {', '.join(get_args(ResyncReason))}." in prose


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("a message, and the gateway's part of a session log", f"{limits.MAX_MESSAGE_BYTES >> 20} MiB"),
        ("drafted tokens in a row", f"{limits.MAX_DRAFT}"),
        ("rows in a batch", f"{limits.MAX_ROWS}"),
        ("most likely tokens per log-probability", f"{limits.MAX_TOP_LOGPROBS}"),
        ("stop ids of a session", f"{limits.MAX_STOP_IDS}"),
        ("entries of an inbox or reply stream", f"{limits.INBOX_CAP:,}"),
        ("deliveries of a batch before it is run row by row", f"{limits.MAX_DELIVERIES}"),
    ],
)
def test_limits_are_the_code_s(what: str, limit: str) -> None:
    assert dict(table("### Limits"))[what] == limit


def test_every_key_is_listed_and_no_other() -> None:
    keys = Keys("x")
    names = [name for name in vars(Keys) if not name.startswith("_") and name not in {"shard", "own"}]
    given = {
        "staged": ["VERIFIER"],
        "inbox": ["DEVICE:GENERATION"],
        "reply": ["GATEWAY:GENERATION"],
        "session": ["ID"],
        "session_ids": ["ID"],
        "session_logprobs": ["ID"],
        "alive": ["ROLE", "NAME"],
        "names": ["ROLE"],
        "device_generation": ["DEVICE"],
    }
    made = [getattr(keys, name)(*given[name]) if name in given else getattr(keys, name) for name in names]
    documented = {key for row in table("## Keys") for key in re.findall(r"`([^`]+)`", row[0])}
    assert documented == {key.removeprefix("or:{x}:") for key in made}


def test_the_changelog_begins_with_this_version() -> None:
    version = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["version"]
    newest = text(HISTORY).split("\n## ")[1]
    assert newest.startswith(f"[{version}]")
    assert f"Protocol version {limits.PROTOCOL_VERSION}." in newest
