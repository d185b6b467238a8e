"""The command that serves a trained model."""

from typing import Annotated

import typer

from .options import ModelDir, Revision
from .program import LibraryCommand

commands = typer.Typer()


@commands.command("serve", cls=LibraryCommand)
def serve_command(
    model_dir: ModelDir,
    backend: Annotated[
        str, typer.Option(metavar="torch|onnx|onnx-int8", help="The model, or a graph that export has added to it.")
    ] = "torch",
    device: Annotated[
        str | None, typer.Option(help="Device of the model, such as cuda:0.", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes, each with the model and its share of the threads.")
    ] = 1,
    max_batch: Annotated[int, typer.Option(min=1, help="Maximum number of texts per pass.")] = 32,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, help="Maximum time that a request waits for others to share its pass.")
    ] = 5.0,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Number of texts that may wait; further requests get status 429.")
    ] = 1024,
    max_texts: Annotated[int, typer.Option(min=1, help="Maximum number of texts in a request.")] = 256,
    max_characters: Annotated[int, typer.Option(min=1, help="Maximum number of characters of a text.")] = 20_000,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Maximum size of a request.")] = 2**20,
    token: Annotated[
        str | None,
        typer.Option(envvar="HF_MULTITASK_TOKEN", help="Token that requests must carry as `Authorization: Bearer`."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Origin whose pages may use the server. Can be given several times."),
    ] = None,
    log: Annotated[
        str, typer.Option(metavar="errors|requests|texts", help="What is logged; only `texts` logs texts.")
    ] = "requests",
    revision: Revision = None,
) -> None:
    """Serve a trained model over HTTP: all its answers from one pass."""
    from ..serving import ServerSettings, serve

    settings = ServerSettings(
        model_dir,
        revision,
        backend,
        device,
        host,
        port,
        workers,
        max_batch,
        max_wait_ms,
        max_queue,
        max_texts,
        max_characters,
        max_body_bytes,
        token,
        allow_origin or [],
        log,
    )
    serve(settings)
