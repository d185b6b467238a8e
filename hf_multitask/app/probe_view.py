"""What linear heads read at each depth of the encoder, before any training."""

from typing import Any

import gradio as gr

from ..probing import LayerProbe
from ..probing.figure import draw_probe
from ..reports.figure_style import to_png
from ..runtime.extras import missing_packages
from .live_view import QUIET
from .markup import notice, picture, table
from .services import Services
from .toasts import warn
from .train_form import FORM_ERRORS, TrainForm, read_form

ABOUT = (
    "Up to 1,000 training rows run through the encoder once, and a small head per task is trained on the states of "
    "each layer. This takes seconds to minutes and trains no layer."
)


def build_probe_view(services: Services, train_form: TrainForm) -> None:
    """Build the button and what it shows.

    Args:
        services: Backend of the app.
        train_form: Form of the train tab, whose choices are probed.
    """
    with gr.Accordion("What each layer knows already", open=False, elem_id="probe"):
        gr.Markdown(ABOUT)
        start = gr.Button("Look at the layers", elem_id="start-probe")
        shown = gr.HTML(elem_id="probe-result")

    def probe(*values: Any) -> str:
        try:
            return show_probe(services.probe(*read_form(values)))
        except FORM_ERRORS as error:
            warn(error)
            return notice(str(error), "error")

    start.click(probe, train_form.inputs, shown, **{**QUIET, "show_progress": "full"})


def show_probe(probe: LayerProbe) -> str:
    """Return a probe as HTML: its sentences, its figure if matplotlib is installed, and its table.

    Args:
        probe: The probe.
    """
    sentences = " ".join(probe.sentences())
    figure = "" if missing_packages("plots") else picture(to_png(draw_probe(probe)), sentences)
    return notice(sentences) + figure + table(*probe.table(), f"Linear heads on each depth of {probe.encoder}")
