"""The tab that finds out which layers to train: a study of ways to freeze, watched and stopped in the browser."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from .choices import RunChoices
from .job_process import FAILED, STOPPING
from .live_view import QUIET, WAIT, Shown, follow, name_in_training, name_to_show
from .markup import notice, progress_bar, table
from .probe_view import build_probe_view
from .race_view import show_race
from .services import Services
from .study_jobs import StudySettings, StudyStatus, needs_folds
from .study_view import (
    StudyView,
    build_study_view,
    connect_study_view,
    display_path,
    open_study,
    show_study,
)
from .toasts import warn
from .train_form import FORM_ERRORS, TrainForm, read_form
from .workspace import RACE_NAME, STUDY_NAME

INTRO = (
    "Trains several ways to freeze layers on the same data and compares their scores with the time they take. A race "
    "trains all of them briefly and the better ones to the end. Data, tasks, encoder and epochs are those of the "
    "Train tab."
)
NO_STUDIES_YET = "No study yet in {}. Choose ways to train and press Start study."
# Ticked first: the cheapest, the dearest, and what most users mean by fine-tuning in stages.
TICKED = ("encoder-frozen", "nothing-frozen", "heads-then-all", "top:1", "top:2")
DEFAULT_MINUTES = 30
RUN_HEADER = ["training", "seconds", "scores on test"]


class StudyForm(NamedTuple):
    """Components that start, stop and choose a study.

    Args:
        about: What the study would train.
        scenarios: Ways to train.
        seeds: Number of trainings of each.
        minutes: Time of the study.
        race: Whether it is a race.
        start: Button that starts a study.
        stop: Button that stops the running one.
        problem: Message about the last press.
        chosen: The study that is shown.
        state: State of that study, with its progress.
        proceed: Button that continues it.
        train: Button that trains its winner.
    """

    about: gr.HTML
    scenarios: gr.CheckboxGroup
    seeds: gr.Number
    minutes: gr.Number
    race: gr.Checkbox
    start: gr.Button
    stop: gr.Button
    problem: gr.HTML
    chosen: gr.Dropdown
    state: gr.HTML
    proceed: gr.Button
    train: gr.Button

    @property
    def shown(self) -> list[gr.components.Component]:
        """The components that show a study."""
        return [self.chosen, self.state, self.start, self.stop, self.proceed, self.train]


class LayersTab(NamedTuple):
    """What the page connects to other tabs.

    Args:
        form: Components that start, stop and choose a study.
        view: Components that show its results.
    """

    form: StudyForm
    view: StudyView


def build_layers_tab(page: gr.Blocks, tab: gr.Tab, services: Services, train_form: TrainForm) -> LayersTab:
    """Build the tab.

    Args:
        page: The page that contains the tab.
        tab: The tab, which reads the choices of the train tab when it is opened.
        services: Backend of the app.
        train_form: Form of the train tab.

    Returns:
        What the page connects to other tabs.
    """
    build_probe_view(services, train_form)
    form = _build_form()
    view = build_study_view()
    connect_study_view(services, view, form.chosen)
    _connect_form(page, tab, services, form, train_form)
    _connect_shown(page, services, form, view, train_form)
    return LayersTab(form, view)


def _build_form() -> StudyForm:
    gr.Markdown(INTRO)
    about = gr.HTML(elem_id="study-about")
    scenarios = gr.CheckboxGroup(
        label="Ways to train", info="The others are compared with the first.", elem_id="scenarios"
    )
    with gr.Row():
        seeds = gr.Number(
            1,
            label="Trainings of each",
            info="More trainings make the differences more certain.",
            minimum=1,
            precision=0,
        )
        minutes = gr.Number(
            DEFAULT_MINUTES,
            label="Time budget in minutes",
            info="The study ends then, with what is finished.",
            minimum=0,
            elem_id="study-minutes",
        )
    race = gr.Checkbox(
        label="Race",
        info="All are trained briefly, at most the better half goes on, up to the number of trainings above.",
        elem_id="race",
    )
    with gr.Row():
        start = gr.Button("Start study", variant="primary", elem_id="start-study")
        stop = gr.Button("Stop study", variant="stop", interactive=False, elem_id="stop-study")
    problem = gr.HTML(elem_id="study-problem")
    chosen = gr.Dropdown(label="Study", elem_id="study", visible=False, allow_custom_value=True)
    state = gr.HTML(elem_id="study-state")
    with gr.Row(elem_classes="actions"):
        proceed = gr.Button("Continue study", size="sm", min_width=110, visible=False, elem_id="continue-study")
        train = gr.Button(
            "Train the winner", size="sm", min_width=110, variant="primary", visible=False, elem_id="train-winner"
        )
    return StudyForm(about, scenarios, seeds, minutes, race, start, stop, problem, chosen, state, proceed, train)


def _connect_form(page: gr.Blocks, tab: gr.Tab, services: Services, form: StudyForm, train_form: TrainForm) -> None:
    """Fill in the ways to train that the choices of the train tab leave, when the tab is opened."""

    def fill(ticked: Sequence[str], *values: Any) -> list[object]:
        try:
            scenarios = services.scenarios(*read_form(values))
            about = _describe_data(services, *read_form(values))
        except FORM_ERRORS as error:
            return [notice(f"The Train tab has a problem. {error}", "error"), gr.CheckboxGroup(choices=[], value=[])]
        names = [scenario.name for scenario in scenarios]
        choices = [(f"{scenario.name}: {scenario.about}", scenario.name) for scenario in scenarios]
        kept = [name for name in names if name in (ticked or TICKED)]
        return [notice(about), gr.CheckboxGroup(choices=choices, value=kept)]

    tab.select(
        fill,
        [form.scenarios, *train_form.inputs],
        [form.about, form.scenarios],
        api_visibility="private",
        show_progress="minimal",
        trigger_mode="always_last",
    )


def _connect_shown(
    page: gr.Blocks, services: Services, form: StudyForm, view: StudyView, train_form: TrainForm
) -> None:
    """Show the chosen study and refresh it regularly, and let the buttons start, stop and continue studies."""
    last_shown = gr.State()
    outputs = [*form.shown, *view, last_shown]

    def refresh(chosen: str | None, last: Shown | None = None) -> list[object]:
        names = _study_names(services)
        name = name_to_show(names, chosen, last)
        status = None if name is None else services.studies.status(name)
        training = name_in_training(services)
        message = None if status is None else status.message
        now = Shown(names, name, (message, training, _result_time(services, name)))
        if now == last:
            return [gr.skip()] * len(outputs)
        return [*_show_status(services, names, name, status, training), *_show_results(services, name), now]

    def start(scenarios: Sequence[str], seeds: float, minutes: float | None, race: bool, *values: Any) -> list[object]:
        def press() -> str:
            settings = StudySettings(list(scenarios), max(int(seeds or 1), 1), minutes or None, race)
            return services.start_study(*read_form(values), settings)

        return act(press, None)

    def proceed(chosen: str | None) -> list[object]:
        def press() -> str | None:
            services.studies.resume(chosen)
            return chosen

        return act(press, chosen)

    def act(press: Any, chosen: str | None) -> list[object]:
        try:
            return [*refresh(press()), ""]
        except FORM_ERRORS as error:
            warn(error)
            return [*refresh(chosen), notice(str(error), "error")]

    def stop(chosen: str | None) -> list[object]:
        services.studies.stop()
        return refresh(chosen)

    follow(page, form.chosen, refresh, outputs, last_shown)
    inputs = [form.scenarios, form.seeds, form.minutes, form.race, *train_form.inputs]
    form.start.click(start, inputs, [*outputs, form.problem], **QUIET)
    form.proceed.click(proceed, form.chosen, [*outputs, form.problem], **QUIET)
    form.stop.click(stop, form.chosen, outputs, **QUIET)


def _show_status(
    services: Services, names: Sequence[str], name: str | None, status: StudyStatus | None, training: str | None
) -> list[object]:
    """Return the updates of `StudyForm.shown`; ``training`` names the run or study that is training, if any."""
    is_training = training is not None
    wait = notice(WAIT.format(training)) if is_training and training != name else ""
    dropdown = gr.Dropdown(choices=list(names), value=name, visible=bool(names))
    start = gr.Button(interactive=not is_training)
    is_active = status is not None and status.is_active
    stop = gr.Button(
        "Stop study at once" if is_active and status is not None and status.state == STOPPING else "Stop study",
        interactive=is_active,
    )
    if name is None:
        text = NO_STUDIES_YET.format(display_path(services.workspace.root))
        return [dropdown, notice(text) + wait, start, stop, gr.Button(visible=False), gr.Button(visible=False)]
    if status is None:  # A study of the command line has its results only.
        return [dropdown, wait, start, stop, gr.Button(visible=False), gr.Button(visible=False)]
    kind = "error" if status.state == FAILED else "info"
    progress = status.progress
    bar = progress_bar(progress.number, progress.total, "trainings of the study") if is_active else ""
    runs = [[run, f"{seconds:.1f}", scores] for run, seconds, scores in progress.runs]
    trained = table(RUN_HEADER, runs, "Finished trainings") if runs and is_active else ""
    if progress.table is not None and is_active:
        title, header, rows = progress.table
        trained = table(header, rows, title) + trained
    return [
        dropdown,
        notice(status.message, kind) + bar + trained + wait,
        start,
        stop,
        gr.Button(visible=not is_active and not status.is_whole, interactive=not is_training),
        gr.Button(visible=not is_active and _has_winner(services, name), interactive=not is_training),
    ]


def _study_names(services: Services) -> list[str]:
    """Return the studies and races of the app and of the command line, the newest of each first."""
    workspace = services.workspace
    return list(dict.fromkeys([*services.studies.names(), *workspace.studies(), *workspace.races()]))


def _show_results(services: Services, name: str | None) -> StudyView:
    """Return the updates that show the results of a study or a race."""
    races = services.workspace.races()
    if name not in races:
        return show_study(services, name)
    try:
        return show_race(races[name])
    except (ValueError, OSError) as error:
        return show_study(services, None)._replace(advice=notice(str(error), "error"))


def _has_winner(services: Services, name: str) -> bool:
    """Return whether the app can train the winner of a study or a race: one that starts from the encoder."""
    if name in services.workspace.races():
        return True
    try:
        winner = open_study(services, name).winner
    except (ValueError, OSError):
        return False
    return winner is not None and winner.starts_from is None


def _result_time(services: Services, name: str | None) -> float:
    """Return the time of the results of a study or a race, which changes when they are written again."""
    paths = [services.workspace.root / (name or "") / file for file in (STUDY_NAME, RACE_NAME)]
    return max((path.stat().st_mtime for path in paths if path.is_file()), default=0.0)


def _describe_data(services: Services, data: str, choices: RunChoices) -> str:
    config = services.run_config(data, choices)
    tasks = ", ".join(task.name for task in config.tasks)
    text = f"Data: {data}. Tasks: {tasks}. Encoder: {config.encoder}."
    if needs_folds(config):
        text += " The data has no test rows, so each way is trained on 3 parts of the rows and scored on the rest."
    return text
