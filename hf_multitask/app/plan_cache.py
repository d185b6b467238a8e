"""Plans of runs, with the model and the data in memory for the next plan."""

from collections.abc import Sequence
from dataclasses import fields, replace

from ..freezing.plan import StagePlan
from ..freezing.schedule import encoder_is_divided
from ..runs import RunConfig
from ..runs.build import RunParts, assemble_trainer, load_parts
from ..study.scenarios import Scenario, list_scenarios
from ..training.trainer import MultiTaskTrainer

EVERYTHING_FROZEN = (
    "Everything is frozen: nothing will be learned. The run only scores the model as it is, a baseline for the others."
)
# Fields and training arguments that neither the model nor the data depends on.
VARYING_FIELDS = ("freeze", "output_dir", "training")
VARYING_ARGUMENTS = ("num_train_epochs", "learning_rate", "head_learning_rate")


class PlanCache:
    """Plans runs for all pages. Consecutive plans of the same model and data load them once."""

    def __init__(self) -> None:
        self._key = ""
        self._parts: RunParts | None = None

    def plan(self, config: RunConfig) -> list[StagePlan]:
        """Plan what each stage of a run will train.

        Args:
            config: Config of the run. Its ``output_dir`` is created if it does not exist.

        Returns:
            The stages, as `run_plan` returns them.

        Raises:
            ValueError: If the config or the data is invalid, or the schedule does not fit.
        """
        return self._trainer(config).plan()

    def scenarios(self, config: RunConfig) -> list[Scenario]:
        """Return the scenarios of a study that can be trained again by a single run.

        Args:
            config: Config of a run of the study.

        Raises:
            ValueError: If the config or the data is invalid.
        """
        groups = self._trainer(replace(config, freeze="none")).layer_groups
        listed = list_scenarios(config.tasks, len(groups.layers) if encoder_is_divided(groups) else 0)
        return [item for item in listed.values() if item.starts_from is None and item.only_task is None]

    def _trainer(self, config: RunConfig) -> MultiTaskTrainer:
        key = _cache_key(config)
        # A plan must not create a repository on the hub.
        config = replace(config, training={**config.training, "push_to_hub": False})
        if self._parts is None or key != self._key:
            self._parts = None  # Frees the last model before the next one is loaded.
            self._parts, self._key = load_parts(config), key
        return assemble_trainer(config, self._parts)


def is_everything_frozen(stages: Sequence[StagePlan]) -> bool:
    """Return whether a run would learn nothing."""
    return not any(stage.trained_groups for stage in stages)


def _cache_key(config: RunConfig) -> str:
    """Return all of a config that its model and its data can depend on."""
    values = {item.name: getattr(config, item.name) for item in fields(config) if item.name not in VARYING_FIELDS}
    training = {name: value for name, value in config.training.items() if name not in VARYING_ARGUMENTS}
    # Heads are chosen by whether layers are frozen at all.
    return repr([values, training, config.freeze == "none"])
