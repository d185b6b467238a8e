"""Commands about this machine: what is installed, and the app."""

from pathlib import Path
from typing import Annotated

import typer

from .program import LibraryCommand

commands = typer.Typer()


@commands.command(cls=LibraryCommand)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Show versions, device, memory, missing extras, the encoders that are here, and what will be slow."""
    from dataclasses import asdict

    from ..runtime.atomic_files import to_json
    from ..runtime.diagnosis import diagnose

    diagnosis = diagnose()
    typer.echo(to_json(asdict(diagnosis), indent=2) if as_json else str(diagnosis))


@commands.command("app", cls=LibraryCommand)
def app_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file of a run whose data is offered first.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Folder of models and studies, in which the app also writes.")] = Path(
        "out"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port. Defaults to the first free port from 7860.")
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Create a public address through gradio.live.")] = False,
    browser: Annotated[bool, typer.Option("--browser", help="Open the app in a browser.")] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name under which the app is reached, such as that of a proxy in front of it. Can be given several "
            "times.",
        ),
    ] = None,
) -> None:
    """Train, try and compare models in the browser."""
    from ..app import launch_app

    launch_app(folder, config, host, port, share, browser, allowed_host or [])
