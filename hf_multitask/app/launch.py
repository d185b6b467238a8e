"""Start of the app's web server."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import datasets
from transformers.utils.logging import disable_progress_bar

from ..runtime.extras import check_packages
from .services import Services
from .uploads import MAX_UPLOAD_BYTES

# A file, and what describes it.
MAX_REQUEST_BYTES = MAX_UPLOAD_BYTES + 2**20


def launch_app(
    folder: str | Path = "out",
    config: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve the app until the process is interrupted.

    It answers only requests that are sent to one of its names, and takes data only from its own pages.

    Args:
        folder: Folder of models, studies, data and runs. Nothing outside it is sent to a browser or written.
        config: Config whose data is offered first. Defaults to the bundled sentences.
        host: Address to listen on. Only this machine can reach the default.
        port: Port. Defaults to the first free port from 7860.
        share: Whether to create a public address as well, through Gradio's servers.
        open_browser: Whether to open the app in a browser.
        allowed_hosts: Names under which the app is reached besides ``localhost`` and ``host``, such as that of a proxy
            in front of it. A name that begins with a dot allows all names below it.

    Raises:
        ImportError: If a package is missing.
        ValueError: If the config is invalid, or an allowed host is not a name.
        OSError: If the port is in use.
    """
    check_packages("app", "the app")
    services = Services(folder, config)
    # The page shows progress itself, and bars in the terminal would hide the address.
    datasets.disable_progress_bars()
    disable_progress_bar()
    # Gradio reads both when it is imported: do not ask a server for its version, and save received files here.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(services.workspace.received_dir)
    from starlette.applications import Starlette

    from .event_streams import EventStreams
    from .page import build_page
    from .page_style import CSS, build_theme
    from .request_checks import SHARE_SUFFIX, AllowedHosts, RequestChecks

    hosts = AllowedHosts.of(host, [*allowed_hosts, *([SHARE_SUFFIX] if share else [])])

    @asynccontextmanager
    async def check_requests(app: Starlette) -> AsyncIterator[None]:
        """Check requests before anything answers them: Gradio puts its own layers before given middleware."""
        if app.middleware_stack is not None:
            app.middleware_stack = RequestChecks(EventStreams(app.middleware_stack), hosts, MAX_REQUEST_BYTES)
        yield

    page = build_page(services)
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        inbrowser=open_browser,
        max_file_size=MAX_UPLOAD_BYTES,
        theme=build_theme(),
        css=CSS,
        footer_links=[],
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
        app_kwargs={"lifespan": check_requests},
    )
    # Gradio's own lines advertise its public links.
    print(f"The app is at {page.local_url}", flush=True)
    page.block_thread()
