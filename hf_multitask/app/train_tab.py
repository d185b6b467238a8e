"""The train tab: the form of a run with its plan, the current run, and a figure of the data."""

from typing import Any

import gradio as gr

from .markup import notice
from .run_view import build_run_view, connect_run_view
from .services import Services
from .train_form import FORM_ERRORS, TrainForm, build_train_form, connect_train_form, read_form


def build_train_tab(page: gr.Blocks, services: Services) -> TrainForm:
    """Build the tab.

    Args:
        page: The page that contains the tab.
        services: Backend of the app.

    Returns:
        The form.
    """
    with gr.Row():
        with gr.Column(scale=6):
            form = build_train_form(services)
            connect_train_form(page, services, form)
        with gr.Column(scale=5):
            connect_run_view(page, services, build_run_view(form), form)
    _build_data_figure(services, form)
    return form


def _build_data_figure(services: Services, form: TrainForm) -> None:
    """Build the figure of the data, which is drawn again when the data or the encoder changes."""
    with gr.Accordion("The data", open=True):
        problem = gr.HTML()
        figure = gr.Image(show_label=False, interactive=False, elem_id="data-picture", buttons=[])
    last_path = gr.State("")

    def show_figure(last: str, *values: Any) -> list[object]:
        try:
            path = str(services.figure(*read_form(values)))
        except FORM_ERRORS as error:
            return [None, notice(str(error), "error"), ""]
        return [gr.skip() if path == last else path, "", path]

    # After the plan, which reports errors in the data first.
    form.plan.change(
        show_figure,
        [last_path, *form.inputs],
        [figure, problem, last_path],
        api_visibility="private",
        show_progress="minimal",
        trigger_mode="always_last",
    )
