"""Training log by task: losses, labeled rows and learning rates between two logs."""

import logging
from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..freezing.distillation import count_items
from ..freezing.rates import trained_rates
from ..models.layer_groups import HEAD
from ..models.losses import count_labeled, count_outliers
from ..models.modeling_multitask import OUTLIERS
from ..models.tasks import TaskConfig
from ..models.type_aliases import Batch, JsonObject
from ..runtime.training_history import LEARNING_RATE_PREFIX, LogEntry, TrainingHistory

logger = logging.getLogger(__name__)

# Suffix of the number of items on which a protected task is distilled.
DISTILL = "_distill"


class TaskLog(TrainerCallback):
    """Collects what a `MultiTaskTrainer` logs in addition to the Trainer, from one log to the next.

    Sums stay on the device, because reading them at every step would wait for it.

    Args:
        accelerator: Accelerator of the trainer.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.losses: dict[str, torch.Tensor] = {}
        self._labeled_rows: dict[str, torch.Tensor] = {}
        self._rates: dict[str, float] = {}
        self._num_steps = 0

    def reset(self) -> None:
        """Begin a training."""
        self.losses, self._labeled_rows, self._rates, self._num_steps = {}, {}, {}, 0

    def state_dict(self) -> JsonObject:
        """Return what has been collected since the last log on this process."""
        return {
            "losses": {name: (loss.item(), _dtype_name(loss)) for name, loss in self.losses.items()},
            "rows": {name: int(count) for name, count in self._labeled_rows.items()},
            "rates": self._rates,
            "steps": self._num_steps,
        }

    def load_state_dict(self, state: JsonObject) -> None:
        """Continue with what `state_dict` has returned."""
        device = self.accelerator.device
        self.losses = {
            name: torch.tensor(value, dtype=getattr(torch, dtype), device=device)
            for name, (value, dtype) in state["losses"].items()
        }
        self._labeled_rows = {name: torch.tensor(count) for name, count in state["rows"].items()}
        self._rates, self._num_steps = state["rates"], state["steps"]

    def begin_step(self) -> None:
        """Count an optimizer step."""
        self._num_steps += 1

    def add_rows(self, rows: Mapping[str, torch.Tensor]) -> None:
        """Add the number of labeled rows by task."""
        for name, count in rows.items():
            self._labeled_rows[name] = count + self._labeled_rows.get(name, 0)

    def add_losses(self, losses: Mapping[str, torch.Tensor]) -> None:
        """Add the losses of a batch by name."""
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + loss

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: object,
    ) -> None:
        """Keep the learning rates of the step. When it is logged, the scheduler has already set the next ones."""
        self._rates = {} if optimizer is None else trained_rates(optimizer)

    def pop(self) -> JsonObject:
        """Return the entries of the log since the last call; on all processes.

        Returns:
            ``<task>_loss``, the mean per step; ``learning_rate``, the highest rate of the encoder's trained groups, or
            of the heads if the encoder is frozen; ``learning_rate_<group>``; and ``<task>_rows``, the labeled rows.
        """
        entries: JsonObject = {}
        if self.losses:
            means = self.accelerator.reduce(torch.stack(list(self.losses.values())), reduction="mean")
            entries |= dict(zip(self.losses, (means / self._num_steps).tolist(), strict=True))
        if self._rates:
            encoder = [rate for name, rate in self._rates.items() if not name.startswith(HEAD)]
            entries["learning_rate"] = max(encoder or self._rates.values())
        entries |= {f"{LEARNING_RATE_PREFIX}{name}": rate for name, rate in self._rates.items()}
        entries |= {f"{name}_rows": count for name, count in self.pop_rows().items()}
        self.losses, self._num_steps = {}, 0
        return entries

    def log_rows(self, tasks: Sequence[TaskConfig], log_history: Sequence[LogEntry]) -> None:
        """Log how many labeled rows of each task a training took; on all processes.

        Args:
            tasks: Tasks of the model.
            log_history: Log of the training.
        """
        since_log, history = self.pop_rows(), TrainingHistory(log_history)
        names = [task.name for task in tasks]
        totals = {name: since_log.get(name, 0) + int(history.total(f"{name}_rows")) for name in names}
        logger.info("Rows trained on: %s.", ", ".join(f"{name} {rows:,}" for name, rows in totals.items()))

    def pop_rows(self) -> dict[str, int]:
        """Return the number of labeled rows by task since the last call, on all processes together."""
        if not self._labeled_rows:
            return {}
        rows = torch.stack(list(self._labeled_rows.values())).to(self.accelerator.device)
        counts = self.accelerator.reduce(rows, reduction="sum").tolist()
        names, self._labeled_rows = list(self._labeled_rows), {}
        return dict(zip(names, counts, strict=True))


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def count_labels(
    tasks: Sequence[TaskConfig], protected: Sequence[TaskConfig], batches: Sequence[Batch]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Count the labels in the batches of an optimizer step.

    Args:
        tasks: Tasks of the model.
        protected: Tasks that are distilled while their head is frozen.
        batches: Batches with labels.

    Returns:
        The number of labeled items by task, by ``<task>_outliers`` the number of rows out of scope, and by
        ``<task>_distill`` the number of items to distill on; and the number of labeled rows by task.
    """
    items: dict[str, torch.Tensor] = {}
    rows: dict[str, torch.Tensor] = {}
    for task in tasks:
        by_row = [count_labeled(task, batch["labels"][task.name]) for batch in batches]
        items[task.name] = torch.stack([counts.sum() for counts in by_row]).sum()
        rows[task.name] = torch.stack([(counts > 0).sum() for counts in by_row]).sum()
        if task.has_scope:
            outliers = [count_outliers(task, batch["labels"][task.name]) for batch in batches]
            items[f"{task.name}{OUTLIERS}"] = torch.stack(outliers).sum()
    for task in protected:
        items[f"{task.name}{DISTILL}"] = torch.stack([count_items(task, batch) for batch in batches]).sum()
    return items, rows
