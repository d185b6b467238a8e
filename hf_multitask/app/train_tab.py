"""The train tab: the form of a run with its plan, the current run, and a figure of the data."""

from typing import Any

import gradio as gr

from .markup import notice, picture
from .run_actions import RunActions
from .run_view import RunView, build_run_view, connect_run_view
from .services import Services
from .train_form import FORM_ERRORS, TrainForm, build_train_form, connect_train_form, read_form

ABOUT_FIGURE = "Bar charts of how often each label occurs, by task and split, and curves of the lengths of the texts."


def build_train_tab(page: gr.Blocks, services: Services) -> tuple[TrainForm, RunView, RunActions]:
    """Build the tab.

    Args:
        page: The page that contains the tab.
        services: Backend of the app.

    Returns:
        The form, the components that show a run and its buttons.
    """
    with gr.Row():
        with gr.Column(scale=6):
            form = build_train_form(services)
            connect_train_form(page, services, form)
        with gr.Column(scale=5):
            view, actions = build_run_view(form)
            connect_run_view(page, services, view, actions, form)
    _build_data_figure(services, form)
    return form, view, actions


def _build_data_figure(services: Services, form: TrainForm) -> None:
    """Build the figure of the data, which is drawn again when the data or the encoder changes."""
    with gr.Accordion("The data", open=True):
        problem = gr.HTML()
        figure = gr.HTML(elem_id="data-picture")
    last_path = gr.State("")

    def show_figure(last: str, *values: Any) -> list[object]:
        try:
            path = services.figure(*read_form(values))
        except FORM_ERRORS as error:
            return ["", notice(str(error), "error"), ""]
        return [gr.skip() if str(path) == last else picture(path.read_bytes(), ABOUT_FIGURE), "", str(path)]

    # After the plan, which reports errors in the data first.
    form.plan.change(
        show_figure,
        [last_path, *form.inputs],
        [figure, problem, last_path],
        api_visibility="private",
        show_progress="minimal",
        trigger_mode="always_last",
    )
