"""What all pages of one app share: the workspace, its data, the training, the models in memory."""

from pathlib import Path
from threading import RLock

from ..freezing.plan import StagePlan
from ..quickstart import QUICKSTART_CONFIG
from ..runs.config import RunConfig
from .choices import RunChoices, build_config
from .data_figure import data_picture
from .jobs import Jobs
from .model_cache import ModelShelf
from .plan_cache import PlanCache
from .uploads import keep_upload
from .workspace import Workspace, look_up

BUNDLED_DATA = "bundled sentences"


class Services:
    """The app without its pages.

    Args:
        folder: Folder of models, studies, data and runs.
        config: A config whose data is offered beside the bundled ones; none where None.

    Raises:
        ValueError: If something in the config is wrong.
        FileNotFoundError: If there is no such config.
    """

    def __init__(self, folder: str | Path, config: str | Path | None = None) -> None:
        # Each config builds TrainingArguments, which set accelerate's state anew: that of the whole process.
        self._lock = RLock()
        # Resolved, so that its data are found from the folder of a run.
        self._own = {} if config is None else {str(config): Path(config).resolve()}
        self._own[BUNDLED_DATA] = QUICKSTART_CONFIG
        self.default_data = next(iter(self._own))
        self.base = RunConfig.from_file(self._own[self.default_data])
        self.workspace = Workspace(folder)
        self.jobs = Jobs(self.workspace)
        self.shelf = ModelShelf()
        self._plans = PlanCache()

    def data_names(self) -> list[str]:
        """Return the names of the data that there are."""
        return [*self._own, *self.workspace.data_sets()]

    def base_config(self, data: str | None) -> RunConfig:
        """Return the config of data.

        Args:
            data: Their name.

        Raises:
            ValueError: If there are none of that name, or their config is damaged.
        """
        own = self._own.get(data or "")
        with self._lock:
            return RunConfig.from_file(own or look_up("data", data, self.workspace.data_sets()))

    def run_config(self, data: str | None, choices: RunChoices) -> RunConfig:
        """Return the config of a run as the page asks for it; its folder is still to be made."""
        with self._lock:
            return build_config(self.base_config(data), choices, self.workspace, self.workspace.app_dir)

    def plan(self, data: str | None, choices: RunChoices) -> list[StagePlan]:
        """Return what a run will train."""
        with self._lock:
            return self._plans.plan(self.run_config(data, choices))

    def start(self, data: str | None, choices: RunChoices) -> str:
        """Start a run; what is wrong with it is said before.

        Returns:
            Its name.
        """
        with self._lock:
            self.plan(data, choices)
            return self.jobs.start(self.run_config(data, choices))

    def picture(self, data: str | None, choices: RunChoices) -> Path:
        """Return a picture of the data."""
        return data_picture(self.workspace, self.run_config(data, choices))

    def keep_upload(self, files: dict[str, str | Path | None]) -> str:
        """Check and keep files that a browser has sent; see `uploads.keep_upload`."""
        return keep_upload(self.workspace, files, self.base)
