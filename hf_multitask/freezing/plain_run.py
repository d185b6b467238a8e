"""Freezing in stages with a plain ``Trainer``."""

from ..models.type_aliases import JsonObject
from .checks import check_replicas, looks_for_unused_parameters
from .replay import Transition
from .run import FreezeRun


class PlainFreezeRun(FreezeRun):
    """The `FreezeRun` of a plain ``Trainer``, with its learning rates and the DDP that it has built."""

    def describe(self, change: Transition) -> JsonObject:
        """Return the peak learning rates of the groups that train."""
        rates = {
            id(parameter): group.get("initial_lr", group["lr"])
            for group in self.optimizer.param_groups
            for parameter in group["params"]
        }
        first = {group.name: next(iter(group.parameters.values())) for group in self.groups}
        return {"learning_rates": {name: rates[id(first[name])] for name in change.trained}}

    def check(self) -> None:
        """Check the training too for what only `MultiTaskTrainer` can do, and for a DDP that would not follow."""
        super().check()
        if self.schedule.sets_rates or self.schedule.protect:
            raise ValueError(
                "freeze schedule: learning rates by stage and `protect` need MultiTaskTrainer(freeze_schedule=…), "
                "found a plain Trainer. Leave learning_rate, head_learning_rate, layer_lr_decay (of the preset "
                "'gradual': {preset: gradual, layer_lr_decay: null}), warmup_steps, lr_scheduler_type, lower_lr and "
                "protect out."
            )
        check_replicas(
            self.groups,
            self.schedule.trained(self.groups),
            self.args.world_size,
            looks_for_unused_parameters(self.args, self.model),
        )
