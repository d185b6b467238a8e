"""What a run will train, at once: data and model are loaded for the first plan only."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..freezing import build_schedule
from ..freezing.plan import StagePlan, plan_stages
from ..models.layer_groups import LayerGroups
from ..runs.build import build_trainer
from ..runs.config import RunConfig
from ..runtime.run_length import total_steps

EVERYTHING_FROZEN = (
    "Everything is frozen: nothing will be learned. The run only scores the model as it is, a baseline for the others."
)
# What a plan takes from each config anew; all else belongs to data and model.
VARIED = ("num_train_epochs", "learning_rate", "head_learning_rate")


@dataclass(frozen=True)
class _Facts:
    """What plans of the same data and model have in common."""

    groups: LayerGroups
    steps_per_epoch: int
    metric: str | None
    optimizer: tuple[Any, Any]


class Planner:
    """Plans runs for all pages; it keeps the model of the last one in memory."""

    def __init__(self) -> None:
        self._key = ""
        self._facts: _Facts | None = None

    def plan(self, config: RunConfig) -> list[StagePlan]:
        """Work out what each stage of a run will train.

        Args:
            config: The run.

        Returns:
            The stages, as `run_plan` returns them.

        Raises:
            ValueError: If something in config or data is wrong, or the schedule does not fit.
        """
        training = {name: value for name, value in config.training.items() if name not in VARIED}
        key = repr(replace(config, freeze="none", output_dir="", training=training))
        if self._facts is None or key != self._key:
            self._facts = None  # before the next is loaded: one model in memory, not two
            self._facts, self._key = _find_facts(config), key
        facts, arguments = self._facts, config.training_arguments()
        max_steps = total_steps(arguments, facts.steps_per_epoch)
        epochs = max_steps / facts.steps_per_epoch
        return plan_stages(
            build_schedule(config.freeze, facts.groups, epochs, facts.metric),
            facts.groups,
            facts.steps_per_epoch,
            max_steps,
            arguments.learning_rate,
            arguments.peak_head_learning_rate,
            *facts.optimizer,
        )


def is_everything_frozen(stages: Sequence[StagePlan]) -> bool:
    """Tell whether a run would learn nothing."""
    return not any(stage.trained_groups for stage in stages)


def _find_facts(config: RunConfig) -> _Facts:
    with tempfile.TemporaryDirectory() as unused:
        trainer, _ = build_trainer(replace(config, freeze="none", output_dir=unused))
        steps_per_epoch, _ = trainer.run_length()
        optimizer = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
        return _Facts(trainer.layer_groups, steps_per_epoch, trainer.args.metric_for_best_model, optimizer)
