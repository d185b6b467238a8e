"""State that all pages of an app share: workspace, data, training jobs and models in memory."""

from collections.abc import Mapping
from pathlib import Path
from threading import RLock

from ..data import SPLITS
from ..data.readers.sources import open_rows
from ..freezing.plan import StagePlan
from ..probing import LayerProbe, probe_layers
from ..quickstart import QUICKSTART_CONFIG
from ..runs.config import RunConfig
from ..study import load_study
from ..study.race_results import load_race
from ..study.scenarios import Scenario
from .choices import RunChoices, build_config
from .data_figure import data_figure
from .job_process import Launcher
from .jobs import Jobs
from .labelling import LabelSheet
from .model_cache import ModelCache
from .plan_cache import PlanCache
from .run_folders import pack_model
from .study_jobs import StudyJobs, StudySettings
from .uploads import ReceivedFile, SeenFile, keep_rows, look_at, receive_text, save_data, texts_of
from .workspace import Workspace, look_up

BUNDLED_DATA = "bundled sentences"
MIN_SCENARIOS = 2


class Services:
    """Backend of the app, without its pages.

    Args:
        folder: Folder of models, studies, data and runs.
        config: Config whose data is offered in addition to the bundled data, if given.

    Raises:
        ValueError: If the config is invalid.
        FileNotFoundError: If the config does not exist.
    """

    def __init__(self, folder: str | Path, config: str | Path | None = None) -> None:
        # Each config builds TrainingArguments, which reset the state of accelerate, and all pages share that state.
        self._lock = RLock()
        # Absolute, so that its data is found from the folder of a run.
        self._own = {} if config is None else {str(config): Path(config).resolve()}
        self._own[BUNDLED_DATA] = QUICKSTART_CONFIG
        self.default_data = next(iter(self._own))
        self.base = RunConfig.from_file(self._own[self.default_data])
        self.workspace = Workspace(folder)
        self.launcher = Launcher(self.workspace)
        self.jobs = Jobs(self.workspace, self.launcher)
        self.model_cache = ModelCache()
        self.studies = StudyJobs(self.workspace, self.launcher)
        self._plans = PlanCache()

    def data_names(self) -> list[str]:
        """Return the names of the available data."""
        return [*self._own, *self.workspace.datasets()]

    def base_config(self, data: str | None) -> RunConfig:
        """Return the config of the data with a name.

        Args:
            data: Name of the data.

        Raises:
            ValueError: If the name is unknown or the config is damaged.
        """
        own = self._own.get(data or "")
        with self._lock:
            return RunConfig.from_file(own or look_up("data", data, self.workspace.datasets()))

    def run_config(self, data: str | None, choices: RunChoices) -> RunConfig:
        """Return the config of a run for the choices on the page. ``output_dir`` is set when the run starts."""
        with self._lock:
            return build_config(self.base_config(data), choices, self.workspace, self.workspace.app_dir)

    def plan(self, data: str | None, choices: RunChoices) -> list[StagePlan]:
        """Plan what a run will train."""
        with self._lock:
            return self._plans.plan(self.run_config(data, choices))

    def start(self, data: str | None, choices: RunChoices) -> str:
        """Start a run, after planning it to find errors first.

        Returns:
            The name of the run.
        """
        with self._lock:
            self.plan(data, choices)
            return self.jobs.start(self.run_config(data, choices))

    def scenarios(self, data: str | None, choices: RunChoices) -> list[Scenario]:
        """Return the scenarios that a study of a run can compare."""
        with self._lock:
            return self._plans.scenarios(self.run_config(data, choices))

    def start_study(self, data: str | None, choices: RunChoices, settings: StudySettings) -> str:
        """Start a study or a race, after looking for errors in the data first.

        Returns:
            The name of the study.
        """
        if len(settings.scenarios) < MIN_SCENARIOS:
            raise ValueError(f"ways to train: choose at least {MIN_SCENARIOS}, so that there is something to compare.")
        with self._lock:
            self.scenarios(data, choices)
            return self.studies.start(self.run_config(data, choices), settings)

    def train_winner(self, name: str | None) -> str:
        """Start a run that trains as the winner of a study or a race did, and return the name of the run.

        Raises:
            ValueError: If the study has no winner, the app did not start it, or a job is running already.
        """
        races = self.workspace.races()
        if name in races:
            with self._lock:
                return self.jobs.start(load_race(races[name]).config)
        study = load_study(look_up("study", name, self.workspace.studies()))
        if study.winner is None:
            raise ValueError(f"{name} has no winner: it takes at least two scenarios that train all tasks.")
        with self._lock:
            return self.jobs.start(self.studies.config_of_winner(name, study.winner))

    def model_of_run(self, name: str | None, models: Mapping[str, Path]) -> str | None:
        """Return the name of the model of a run, or of the checkpoint that stands for it; None if it has neither."""
        return next((model for model in models if name and f"{model}/".startswith(f"{name}/")), None)

    def pack_run(self, name: str | None) -> Path:
        """Pack the model of a run as a zip file, and return the file.

        Raises:
            ValueError: If the run has no model.
            OSError: If the disk is full.
        """
        models = self.workspace.models()
        model = self.model_of_run(name, models)
        if model is None:
            raise ValueError(f"{name} has no model to download.")
        packed = str(name).rpartition("/")[2]
        return pack_model(models[model], packed, self.workspace.received_dir / f"{packed}.zip")

    def figure(self, data: str | None, choices: RunChoices) -> Path:
        """Return the file of a figure of the data."""
        return data_figure(self.workspace, self.run_config(data, choices))

    def probe(self, data: str | None, choices: RunChoices) -> LayerProbe:
        """Return what linear heads read at each depth of the encoder; see `probe_layers`."""
        return probe_layers(self.run_config(data, choices))

    def look_at(self, file: ReceivedFile) -> SeenFile:
        """Read a received file; see `uploads.look_at`."""
        return look_at(self.workspace, file)

    def receive_text(self, text: str) -> Path:
        """Save pasted cells as a received file; see `uploads.receive_text`."""
        return receive_text(self.workspace, text)

    def texts(self, file: ReceivedFile) -> list[str]:
        """Return the texts of a received file; see `uploads.texts_of`."""
        return texts_of(self.workspace, file)

    def save_data(self, train: ReceivedFile, others: Mapping[str, str | Path | None], leave_out: bool = False) -> str:
        """Check received files and save them as a dataset; see `uploads.save_data`."""
        return save_data(self.workspace, train, others, self.base, leave_out)

    def save_labels(self, sheet: LabelSheet) -> str:
        """Save the labeled rows of a sheet as a dataset, and return its name."""
        rows = sheet.rows()
        if not rows:
            raise ValueError("labels: no row has a label yet.")
        return keep_rows(self.workspace, f"{sheet.name}.jsonl", {SPLITS[0]: rows}, [sheet.task()], {}, self.base)

    def columns(self, data: str | None) -> list[str]:
        """Return the columns of the first training row of a dataset; none if they are not known without the hub."""
        config = self.base_config(data).data_configs[0]
        if config.name is not None or not isinstance(config.train, str):
            return []
        rows = open_rows(config.train, SPLITS[0], config.format, config.columns, config.reading_options())
        try:
            return list(next(rows).row)
        except (StopIteration, ValueError, OSError, ImportError):
            return []  # The plan shows the error.
