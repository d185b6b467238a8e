"""The command that looks at the depths of an encoder before any training."""

from pathlib import Path
from typing import Annotated

import typer

from .options import ConfigFile
from .program import ANY_FIELD, OVERRIDES_HELP, LibraryCommand, read_config

commands = typer.Typer()


@commands.command("probe", cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def probe_command(
    context: typer.Context,
    config: ConfigFile,
    rows: Annotated[int, typer.Option(min=2, help="Maximum number of training rows to read.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of a table.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Write a figure of the scores by depth to this .png or .svg file.")
    ] = None,
) -> None:
    """Show what linear heads can read at each depth of the encoder of CONFIG, and where gradients are large."""
    from ..probing import probe_layers
    from ..probing.figure import save_probe_figure
    from ..reports.figure_style import check_figure_path
    from ..runtime.atomic_files import to_json
    from .probe import print_probe

    if picture is not None:
        check_figure_path(picture)
    probe = probe_layers(read_config(context, config), rows)
    if as_json:
        typer.echo(to_json(probe.to_dict(), indent=2))
    else:
        print_probe(probe)
    if picture is not None:
        save_probe_figure(probe, picture)
        typer.echo(f"Figure written to {picture}", err=as_json)
