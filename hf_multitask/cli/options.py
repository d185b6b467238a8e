"""Arguments and options that several commands have."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__


def _print_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"hf-multitask {__version__}")
        raise typer.Exit


def check_file(path: Path | None) -> Path | None:
    """Refuse a file that does not exist, before the library is imported, which takes seconds."""
    if path is None or path.exists():
        return path
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, names, n=1)
    raise typer.BadParameter(f"{path}: there is no such file.{f' Did you mean {close[0]!r}?' if close else ''}")


def _check_files(paths: list[Path]) -> list[Path]:
    for path in paths:
        check_file(path)
    return paths


ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.", show_default=False, callback=check_file)
]
DataFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA…",
        help="Files with labels. Names with train, validation and test are splits of one dataset.",
        callback=_check_files,
    ),
]
Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the model in output_dir.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in output_dir.")]
Format = Annotated[
    str | None, typer.Option(help="Format of the file, such as conll. Defaults to the format of its extension.")
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=COLUMN,…", help="Names or numbers of the columns in the file: tokens=0,ner=3 or text=utterance."
    ),
]
Delimiter = Annotated[str | None, typer.Option(help="Character between the cells of a table, if it is not guessed.")]
Encoding = Annotated[str | None, typer.Option(help="Encoding of a text file, such as cp1252. Defaults to utf-8.")]
Quoting = Annotated[
    str | None, typer.Option(metavar="double|backslash|none", help="How a quote is written in a cell of a table.")
]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether line 1 of a table names the columns.", show_default=False),
]
Sheet = Annotated[
    str | None, typer.Option(metavar="NAME", help="Sheet of an Excel file. Defaults to the first.", show_default=False)
]
OutOfScope = Annotated[
    Path | None,
    typer.Option(
        help="File of more rows, which are out of scope of the tasks that abstain. Only its texts are read.",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Rows per batch and device.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Print all messages of this package and of transformers, as in train.log.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")]
ModelDir = Annotated[str, typer.Argument(metavar="MODEL_DIR", help="Folder or hub name of a trained model.")]
AnnotationTool = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="label_studio|doccano|prodigy",
        help="Write the rows as this annotation tool imports them, with the given and the predicted labels.",
        show_default=False,
    ),
]
