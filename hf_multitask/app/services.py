"""State that all pages of an app share: workspace, data, training jobs and models in memory."""

from pathlib import Path
from threading import RLock

from ..freezing.plan import StagePlan
from ..quickstart import QUICKSTART_CONFIG
from ..runs.config import RunConfig
from .choices import RunChoices, build_config
from .data_figure import data_figure
from .jobs import Jobs
from .model_cache import ModelCache
from .plan_cache import PlanCache
from .uploads import keep_upload
from .workspace import Workspace, look_up

BUNDLED_DATA = "bundled sentences"


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
        self.jobs = Jobs(self.workspace)
        self.model_cache = ModelCache()
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

    def figure(self, data: str | None, choices: RunChoices) -> Path:
        """Return the file of a figure of the data."""
        return data_figure(self.workspace, self.run_config(data, choices))

    def keep_upload(self, files: dict[str, str | Path | None]) -> str:
        """Check and save uploaded files; see `uploads.keep_upload`."""
        return keep_upload(self.workspace, files, self.base)
