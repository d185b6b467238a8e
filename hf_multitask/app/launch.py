"""Starting the app."""

import os
from pathlib import Path

import datasets
from transformers.utils.logging import disable_progress_bar

from ..runtime.extras import check_packages
from .services import Services
from .uploads import MAX_UPLOAD_BYTES


def launch_app(
    folder: str | Path = "out",
    config: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
) -> None:
    """Serve the app until the process is interrupted.

    Args:
        folder: Folder of models, studies, data and runs; nothing outside of it is read for a browser or written.
        config: A config whose data is offered first; the bundled sentences where None.
        host: Address to listen at; this machine alone can reach the default.
        port: Port; a free one from 7860 on where None.
        share: Give the app a public address too, through Gradio's servers.
        open_browser: Open the app in a browser.

    Raises:
        ImportError: If a package is missing.
        ValueError: If something in the config is wrong.
        OSError: If the port is taken.
    """
    check_packages("app", "the app")
    services = Services(folder, config)
    # Of no use beside a page, and in the way of the address.
    datasets.disable_progress_bars()
    disable_progress_bar()
    # Both are read when Gradio is imported: it asks no server for its version, and keeps what it receives here.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(services.workspace.received_dir)
    from .page import CSS, build_page, build_theme

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
    )
