"""The form of a run: data, tasks, encoder, schedule and learning rates, with the plan that they result in."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import gradio as gr

from ..data import SPLITS
from ..freezing.plan import PLAN_HEADER
from ..runtime.byte_sizes import format_bytes
from .choices import RunChoices, default_choices, freezable_groups, parse_tasks, schedule_names
from .markup import notice, table
from .plan_cache import EVERYTHING_FROZEN, is_everything_frozen
from .services import Services
from .uploads import MAX_UPLOAD_BYTES

# Errors that the page shows: wrong input, files and disks, and missing extras.
# Shown in a field that is left empty.
CHOSEN = "chosen from the rows"
FORM_ERRORS = (ValueError, OSError, ImportError)
UPLOAD_HELP = (
    "JSONL, JSON, CSV, TSV, Parquet or CoNLL, at most "
    f"{format_bytes(MAX_UPLOAD_BYTES)} each. Without a validation file, a tenth of train is used for validation."
)


class TrainForm(NamedTuple):
    """Components of the form.

    Args:
        inputs: The data, and the choices in the order of the fields of `RunChoices`.
        files: Uploads of the splits.
        keep: Button that saves the uploaded files.
        upload_problem: Message about the upload.
        plan: Plan of the run.
        start: Button that starts the run.
        stop: Button that stops the current run.
        problem: Message about the start of the run.
    """

    inputs: list[gr.components.Component]
    files: list[gr.File]
    keep: gr.Button
    upload_problem: gr.HTML
    plan: gr.HTML
    start: gr.Button
    stop: gr.Button
    problem: gr.HTML


def read_form(values: Sequence[Any]) -> tuple[str, RunChoices]:
    """Return the data and the choices from the values of `TrainForm.inputs`."""
    data, *choices = values
    return data, RunChoices(*choices)


def build_train_form(services: Services) -> TrainForm:
    """Build the components of the form.

    Args:
        services: Backend of the app.
    """
    base = services.base
    defaults = default_choices(base)
    data = gr.Dropdown(services.data_names(), value=services.default_data, label="Data", elem_id="data")
    with gr.Accordion("Upload data", open=False):
        gr.Markdown(UPLOAD_HELP)
        with gr.Row():
            files = [gr.File(label=split, height=130, elem_id=f"upload-{split}") for split in SPLITS]
        keep = gr.Button("Check and save these files", size="sm", elem_id="keep-upload")
        upload_problem = gr.HTML(elem_id="upload-problem")
    with gr.Accordion("Tasks, encoder and learning rates", open=False):
        tasks = gr.Textbox(defaults.tasks, label="Tasks, one per line", lines=2, max_lines=8, elem_id="tasks")
        encoder = gr.Textbox(
            defaults.encoder,
            label="Encoder: a hub name, or a model of the Try tab to continue from",
            elem_id="encoder",
        )
        with gr.Row():
            rate = gr.Number(defaults.learning_rate, label="Learning rate of the encoder", placeholder=CHOSEN)
            head_rate = gr.Number(defaults.head_learning_rate, label="Learning rate of the heads", placeholder=CHOSEN)
    with gr.Row():
        schedule = gr.Dropdown(
            schedule_names(base),
            value=defaults.schedule,
            label="Freeze schedule",
            allow_custom_value=True,
            scale=2,
            elem_id="schedule",
        )
        epochs = gr.Number(defaults.epochs, label="Epochs", minimum=0, scale=1, elem_id="epochs", placeholder=CHOSEN)
    frozen = gr.CheckboxGroup(freezable_groups(base.tasks), label="Freeze", elem_id="frozen")
    plan = gr.HTML(elem_id="plan", label="Plan")
    with gr.Row():
        start = gr.Button("Start", variant="primary", elem_id="start")
        stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop")
    problem = gr.HTML(elem_id="problem")
    inputs = [data, tasks, encoder, schedule, frozen, epochs, rate, head_rate]
    return TrainForm(inputs, files, keep, upload_problem, plan, start, stop, problem)


def connect_train_form(page: gr.Blocks, services: Services, form: TrainForm) -> None:
    """Connect the components: each choice updates the plan, and new data fills the form.

    Args:
        page: The page that contains the form.
        services: Backend of the app.
        form: The components.
    """
    data, tasks, encoder, schedule, frozen, epochs, rate, head_rate = form.inputs

    def show_plan(*values: Any) -> str:
        try:
            stages = services.plan(*read_form(values))
        except FORM_ERRORS as error:
            return notice(str(error), "error")
        warning = notice(EVERYTHING_FROZEN, "warning") if is_everything_frozen(stages) else ""
        return warning + table(PLAN_HEADER, [stage.in_words() for stage in stages])

    def fill(name: str) -> list[object]:
        return _form_updates(services, name)

    def fill_boxes(text: str, ticked: Sequence[str]) -> object:
        try:
            groups = freezable_groups(parse_tasks(text))
        except ValueError:
            return gr.skip()  # The plan shows the error.
        return gr.CheckboxGroup(choices=groups, value=[name for _, name in groups if name in ticked])

    def keep_files(*paths: str | None) -> list[object]:
        try:
            name = services.keep_upload(dict(zip(SPLITS, paths, strict=True)))
        except FORM_ERRORS as error:
            return [notice(str(error), "error"), *[gr.skip()] * (len(form.files) + len(form.inputs))]
        message = notice(f"{name} is saved. Its tasks were guessed: check them.")
        return [message, *[None] * len(form.files), *fill(name)]

    private = {"api_visibility": "private"}
    # Planning takes time: of several changes during it, only the last is planned.
    quiet = {**private, "show_progress": "minimal", "trigger_mode": "always_last"}
    page.load(lambda: gr.Dropdown(choices=services.data_names()), outputs=data, **private)
    page.load(show_plan, form.inputs, form.plan, **quiet)
    filled = [
        data.input(fill, data, form.inputs, **private),
        form.keep.click(keep_files, form.files, [form.upload_problem, *form.files, *form.inputs], **private),
        tasks.blur(fill_boxes, [tasks, frozen], frozen, **private),
    ]
    for event in filled:
        event.then(show_plan, form.inputs, form.plan, **quiet)
    # Text fields on blur, since a half typed encoder would be looked up on the hub.
    changes = [schedule.input, frozen.input, epochs.input, rate.input, head_rate.input, encoder.blur]
    gr.on(changes, show_plan, form.inputs, form.plan, **quiet)


def _form_updates(services: Services, name: str) -> list[object]:
    """Return the updates of `TrainForm.inputs` that show the config of other data."""
    try:
        config = services.base_config(name)
    except FORM_ERRORS as error:
        gr.Warning(str(error))
        return [gr.Dropdown(choices=services.data_names()), *[gr.skip()] * len(fields(RunChoices))]
    defaults = default_choices(config)
    return [
        gr.Dropdown(choices=services.data_names(), value=name),
        defaults.tasks,
        defaults.encoder,
        gr.Dropdown(choices=schedule_names(config), value=defaults.schedule),
        gr.CheckboxGroup(choices=freezable_groups(config.tasks), value=[]),
        defaults.epochs,
        defaults.learning_rate,
        defaults.head_learning_rate,
    ]
