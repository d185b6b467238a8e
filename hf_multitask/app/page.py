"""The page with its tabs."""

import gradio as gr

from .compare_tab import build_compare_tab
from .data_tab import build_data_tab, connect_data_tab
from .services import Services
from .train_tab import build_train_tab
from .try_tab import build_try_tab

TITLE = "hf-multitask"
TRAIN = "train"
# Seconds between looking for uploads that nobody has saved, and their age when they are deleted.
DELETE_UPLOADS = (3600, 24 * 3600)
CSS = """
.wide {overflow-x: auto}
table.facts {border: 0 !important; border-collapse: collapse; width: 100%; font-size: .9em}
table.facts th, table.facts td {border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  padding: .35em .6em !important; text-align: left; vertical-align: top}
.notice {border-left: 4px solid var(--color-accent); padding: .5em .8em; margin: .3em 0; border-radius: 4px;
  background: var(--background-fill-secondary); overflow-wrap: anywhere}
.notice.warning {border-left-color: #E69F00}
.notice.error {border-left-color: #D55E00}
#results table {font-family: var(--font); font-size: .85em}
progress.steps {width: 100%; height: .7em; accent-color: var(--color-accent)}
"""


def build_theme() -> gr.themes.Base:
    """Return the theme. It uses fonts of the system, so that the page downloads none."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def build_page(services: Services) -> gr.Blocks:
    """Build the page.

    Args:
        services: Backend of the app.

    Returns:
        The page, ready to launch.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=DELETE_UPLOADS) as page:
        gr.Markdown("# hf-multitask\nOne encoder, several jobs: train, try and compare.")
        with gr.Tabs() as tabs:
            with gr.Tab("Train", id=TRAIN):
                form = build_train_tab(page, services)
            with gr.Tab("Own data"):
                own = build_data_tab(page, services)
            with gr.Tab("Try") as try_tab:
                build_try_tab(page, try_tab, services)
            with gr.Tab("Compare") as compare_tab:
                build_compare_tab(page, compare_tab, services)
        connect_data_tab(services, own, tabs, TRAIN, form)
    return page
