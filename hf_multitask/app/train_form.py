"""The form of a run: data, tasks, encoder, effort and what is frozen, with the plan that they result in."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import gradio as gr

from ..freezing.plan import PLAN_HEADER
from ..models.tasks import LINEAR_HEAD, LSTM_HEAD
from ..recommendation.encoder_catalogue import MULTILINGUAL, SMALL, STRONGEST
from ..training.settings import EFFORTS, QUICK, STANDARD, THOROUGH
from .choices import AS_TICKED, NUMBERS, RunChoices, default_choices, freezable_groups, parse_tasks, schedule_names
from .markup import notice, table
from .plan_cache import EVERYTHING_FROZEN, is_everything_frozen
from .services import Services
from .task_edits import FIELDS, MAX_ROWS, show_tasks
from .task_rows import TaskRows, build_task_rows, connect_task_rows
from .toasts import warn

# Shown in a field that is left empty.
CHOSEN = "chosen from the rows"
# Errors that the page shows: wrong input, files and disks, and missing extras.
FORM_ERRORS = (ValueError, OSError, ImportError)
EFFORT_WORDS = {
    QUICK: "quick: half the time",
    STANDARD: "standard",
    THOROUGH: "thorough: twice the time or more, for a little better scores",
}
# In the choice of the head, a head that is left out.
BY_EFFORT = ""
HEAD_WORDS = {"chosen by the effort": BY_EFFORT, "linear: fast": LINEAR_HEAD, "LSTM: a third more time": LSTM_HEAD}
# In the choice of the method by which tasks abstain, none.
NEVER = ""
ABSTAIN_WORDS = {
    "never": NEVER,
    "by all scores (energy)": "energy",
    "by the best score (max_softmax)": "max_softmax",
    "by the distance to the labels (mahalanobis)": "mahalanobis",
    "by the distance to the nearest row (knn)": "knn",
}
TICKS_HELP = "A part that is frozen stays as it is. Freezing the encoder is fast, and keeps what it knows."
TICKS_OFF = f"The schedule decides what is frozen. To tick parts yourself, choose “{AS_TICKED}”."
# The browser keeps the form under this name. What it keeps is no secret, so that a restarted app can read it.
STORAGE_KEY, STORAGE_WORD = "hf-multitask-form", "hf-multitask"

# Components that other data fill: the inputs, and the fields of the tasks with the button that adds one.
NUM_FILLED = 1 + len(fields(RunChoices)) + FIELDS * MAX_ROWS + 1


class TrainForm(NamedTuple):
    """Components of the form.

    Args:
        inputs: The data, and the choices in the order of the fields of `RunChoices`.
        rows: Fields of the tasks.
        columns: Columns of the data.
        task_problem: Message about the tasks.
        plan: Plan of the run.
        start: Button that starts the run.
        stop: Button that stops the current run.
        problem: Message about the start of the run.
        kept: What the browser keeps of the form.
        planned: Arguments of the event that plans the run again.
    """

    inputs: list[gr.components.Component]
    rows: TaskRows
    task_problem: gr.HTML
    plan: gr.HTML
    start: gr.Button
    stop: gr.Button
    problem: gr.HTML
    kept: gr.BrowserState
    planned: dict[str, Any]


def read_form(values: Sequence[Any]) -> tuple[str, RunChoices]:
    """Return the data and the choices from the values of `TrainForm.inputs`."""
    data, *given = values
    choices = dict(zip((item.name for item in fields(RunChoices)), given, strict=True))
    numbers = {name: _number(choices[name]) for name in NUMBERS}
    return data, RunChoices(
        **{**choices, **numbers, "head": choices["head"] or None, "abstain": choices["abstain"] or None}
    )


def _number(text: object) -> Any:
    """Return the number that a field contains; None if it is empty, and other text as it is, to be refused."""
    if not isinstance(text, str):
        return text
    try:
        return float(text) if text.strip() else None
    except ValueError:
        return text


def _number_field(value: float | None, label: str, info: str, elem_id: str) -> gr.Textbox:
    """Return a field for a number. It is one for text, since Gradio shows a 0 in a number field without a value."""
    return gr.Textbox(
        _as_text(value), label=label, info=info, placeholder=CHOSEN, lines=1, max_lines=1, elem_id=elem_id
    )


def _as_text(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"


def values_of(choices: RunChoices) -> dict[str, object]:
    """Return the values of `TrainForm.inputs` that show choices, by field."""
    values = {item.name: getattr(choices, item.name) for item in fields(RunChoices)}
    numbers = {name: value if isinstance(value := values[name], str) else _as_text(value) for name in NUMBERS}
    return {**values, **numbers, "head": choices.head or BY_EFFORT, "abstain": choices.abstain or NEVER}


def build_train_form(services: Services) -> TrainForm:
    """Build the components of the form.

    Args:
        services: Backend of the app.
    """
    base = services.base
    defaults = default_choices(base)
    data = gr.Dropdown(
        services.data_names(),
        value=services.default_data,
        label="Data",
        info="The rows to learn from. Add your own in the Own data tab.",
        elem_id="data",
    )
    gr.HTML('<h2 class="part">What the model learns</h2>')
    rows = build_task_rows(base.tasks, services.columns(services.default_data))
    task_problem = gr.HTML(elem_id="task-problem")
    effort = gr.Radio(
        [(EFFORT_WORDS[name], name) for name in EFFORTS],
        value=defaults.effort,
        label="Effort",
        info="How much training time a better score is worth. Everything that you leave out is chosen by it.",
        elem_id="effort",
    )
    encoder = _build_encoder(services, defaults.encoder)
    schedule = gr.Dropdown(
        schedule_names(base),
        value=defaults.schedule,
        label="What to train",
        info="Start with everything. Schedules freeze parts at first, and train one after the other.",
        allow_custom_value=True,
        elem_id="schedule",
    )
    frozen = gr.CheckboxGroup(
        freezable_groups(base.tasks),
        label="Freeze",
        info=TICKS_HELP if defaults.schedule == AS_TICKED else TICKS_OFF,
        interactive=defaults.schedule == AS_TICKED,
        elem_id="frozen",
    )
    advanced = _build_advanced(defaults)
    plan = gr.HTML(elem_id="plan", label="Plan")
    with gr.Row():
        start = gr.Button("Start", variant="primary", elem_id="start")
        stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop")
    problem = gr.HTML(elem_id="problem")
    kept = gr.BrowserState(None, storage_key=STORAGE_KEY, secret=STORAGE_WORD)
    named = {**advanced, "encoder": encoder, "schedule": schedule, "frozen": frozen, "effort": effort}
    inputs = [data, *(named[item.name] for item in fields(RunChoices))]
    # Planning takes time: of several changes during it, only the last is planned.
    planned = {
        "fn": _planner(services),
        "inputs": inputs,
        "outputs": [plan, kept],
        "api_visibility": "private",
        "show_progress": "minimal",
        "trigger_mode": "always_last",
    }
    return TrainForm(inputs, rows, task_problem, plan, start, stop, problem, kept, planned)


def _planner(services: Services) -> Callable[..., list[object]]:
    """Return the function that shows the plan of a form, and lets the browser keep the form."""

    def show_plan(*values: Any) -> list[object]:
        kept = {"app": services.default_data, "values": list(values)}
        try:
            stages = services.plan(*read_form(values))
        except FORM_ERRORS as error:
            return [notice(str(error), "error"), kept]
        warning = notice(EVERYTHING_FROZEN, "warning") if is_everything_frozen(stages) else ""
        return [warning + table(PLAN_HEADER, [stage.in_words() for stage in stages]), kept]

    return show_plan


def _build_encoder(services: Services, encoder: str) -> gr.Dropdown:
    names = dict.fromkeys([encoder, SMALL, MULTILINGUAL, STRONGEST, *services.workspace.models()])
    return gr.Dropdown(
        list(names),
        value=encoder,
        label="Encoder",
        info=(
            "The model that reads the text and has learned its language already. MiniLM is small and fast; mpnet is "
            "larger and often better; multilingual is for other languages than English. Any name of the Hugging Face "
            "hub works, and a model of the Try tab, to continue from it."
        ),
        allow_custom_value=True,
        elem_id="encoder",
    )


def _build_advanced(defaults: RunChoices) -> dict[str, gr.components.Component]:
    """Build what most people leave alone; by field of `RunChoices`."""
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        with gr.Row():
            epochs = _number_field(
                defaults.epochs,
                "Epochs",
                "How often each row is read. Few rows need more; too many, and they are learned by heart.",
                "epochs",
            )
            batch_size = _number_field(
                defaults.batch_size, "Rows per step", "If memory runs out, take fewer.", "batch-size"
            )
        with gr.Row():
            rate = _number_field(
                defaults.learning_rate,
                "Learning rate of the encoder",
                "How far a step changes it. If the loss jumps up, take less.",
                "rate",
            )
            head_rate = _number_field(
                defaults.head_learning_rate,
                "Learning rate of the heads",
                "Heads are new and start from nothing, so they change faster.",
                "head-rate",
            )
        head = gr.Dropdown(
            list(HEAD_WORDS.items()),
            value=defaults.head or BY_EFFORT,
            label="Head of tasks with marks on words",
            info="The part that turns what the encoder has read into marks. Other tasks have a linear one.",
            elem_id="head",
        )
        calibrate = gr.Checkbox(
            defaults.calibrate,
            label="Scores that say how often they are right",
            info="Fitted on the rows kept for validation after the training. Labels stay the same.",
            elem_id="calibrate",
        )
        abstain = gr.Dropdown(
            list(ABSTAIN_WORDS.items()),
            value=defaults.abstain or NEVER,
            label="Answer “none of these” to texts that fit no label",
            info="For tasks with one label per text. About 4 of 100 texts that do fit a label get this answer too.",
            elem_id="abstain",
        )
        tasks = gr.Textbox(
            defaults.tasks,
            label="Tasks as YAML",
            info="All fields of a task, one task per line. The fields above follow when you leave this one.",
            lines=2,
            max_lines=8,
            elem_id="tasks",
        )
    return {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": rate,
        "head_learning_rate": head_rate,
        "head": head,
        "calibrate": calibrate,
        "abstain": abstain,
        "tasks": tasks,
    }


def connect_train_form(page: gr.Blocks, services: Services, form: TrainForm) -> None:
    """Connect the components: each choice updates the plan, and new data fills the form.

    Args:
        page: The page that contains the form.
        services: Backend of the app.
        form: The components.
    """
    data, *choices = form.inputs
    by_name = dict(zip((item.name for item in fields(RunChoices)), choices, strict=True))
    tasks, schedule, frozen = by_name["tasks"], by_name["schedule"], by_name["frozen"]
    filled = [*form.inputs, *form.rows.components()]

    def fill_boxes(text: str, chosen: str, ticked: Sequence[str]) -> object:
        is_ticked = chosen == AS_TICKED
        info = TICKS_HELP if is_ticked else TICKS_OFF
        try:
            groups = freezable_groups(parse_tasks(text))
        except ValueError:
            return gr.CheckboxGroup(interactive=is_ticked, info=info)  # The plan shows the error.
        value = [name for _, name in groups if name in ticked]
        return gr.CheckboxGroup(choices=groups, value=value, interactive=is_ticked, info=info)

    def restore(kept: object) -> list[object]:
        return _restored(services, kept)

    private = {"api_visibility": "private"}
    page.load(restore, form.kept, filled, **private).then(**form.planned)
    data.input(lambda name: fill_form(services, name), data, filled, **private).then(**form.planned)
    boxes = {"fn": fill_boxes, "inputs": [tasks, schedule, frozen], "outputs": frozen, **private}
    changed = connect_task_rows(
        form.rows, tasks, data, services.columns, form.task_problem, lambda error: notice(str(error), "error")
    )
    for event in changed:
        event.then(**boxes).then(**form.planned)
    schedule.input(**boxes).then(**form.planned)
    # Gradio's input event misses numbers that are pasted, and a half typed encoder would be looked up on the hub.
    numbers = [by_name[name].change for name in NUMBERS]
    simple = [by_name[name].input for name in ("frozen", "effort", "head", "calibrate", "abstain")]
    encoder = by_name["encoder"]
    gr.on([*numbers, *simple, encoder.blur, encoder.select], **form.planned)


def fill_form(services: Services, name: str, choices: RunChoices | None = None) -> list[object]:
    """Return the updates of `TrainForm.inputs` and of the fields of the tasks that show other data.

    Args:
        services: Backend of the app.
        name: Name of the data.
        choices: Choices to show. Defaults to those of the config of the data.
    """
    try:
        config = services.base_config(name)
        choices = choices or default_choices(config)
        tasks = parse_tasks(choices.tasks)
    except FORM_ERRORS as error:
        warn(error)
        return [gr.Dropdown(choices=services.data_names()), *[gr.skip()] * (NUM_FILLED - 1)]
    is_ticked, groups = choices.schedule == AS_TICKED, freezable_groups(tasks)
    updates = values_of(choices)
    updates["schedule"] = gr.Dropdown(choices=schedule_names(config), value=choices.schedule)
    updates["frozen"] = gr.CheckboxGroup(
        choices=groups,
        value=[group for _, group in groups if group in choices.frozen],
        interactive=is_ticked,
        info=TICKS_HELP if is_ticked else TICKS_OFF,
    )
    fields_of_tasks = [gr.update(**update) for update in show_tasks(tasks, services.columns(name))]
    return [gr.Dropdown(choices=services.data_names(), value=name), *updates.values(), *fields_of_tasks]


def _restored(services: Services, kept: object) -> list[object]:
    """Return the updates that show the form as the browser has kept it.

    The form of an app that was started with other data, or whose data is gone, is not shown.
    """
    names = services.data_names()
    if isinstance(kept, dict) and kept.get("app") == services.default_data:
        try:
            data, choices = read_form(kept["values"])
            if data in names:
                return fill_form(services, data, choices)
        except (ValueError, TypeError, KeyError, AttributeError):
            pass  # Kept by another version.
    return [gr.Dropdown(choices=names), *[gr.skip()] * (NUM_FILLED - 1)]
