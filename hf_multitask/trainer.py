"""The Trainer for several tasks on one encoder."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from .data import LengthGroupedSampler, LengthSortedSampler, MultiTaskDataCollator
from .freezing import freeze as freeze_groups
from .metrics import build_compute_metrics
from .models import MultiTaskModel, MultiTaskOutput
from .models.decoding import decode
from .models.losses import count_labelled, example_losses
from .training_args import MultiTaskTrainingArguments

logger = logging.getLogger(__name__)


class MultiTaskTrainer(Trainer):
    """``transformers.Trainer`` for a `MultiTaskModel`.

    It adds losses by task that accumulation, padding and missing labels do not change, a learning rate for the heads,
    predictions reduced to label ids on the device, metrics by task, batches of like length, and freezing.

    Args:
        model: The model.
        args: The arguments.
        freeze: Groups that do not train, see `freezing.freeze`. What the model has frozen stays so where None.
        kwargs: All else that ``Trainer`` takes. ``data_collator`` and ``compute_metrics`` are made from the model's
            tasks where they are not given.

    Raises:
        ValueError: If ``freeze`` names a group that the model does not have.
    """

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        model: MultiTaskModel,
        args: MultiTaskTrainingArguments,
        freeze: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.tasks = model.config.tasks
        if freeze is not None:
            freeze_groups(model, freeze)
        if kwargs.get("data_collator") is None and kwargs.get("processing_class") is not None:
            kwargs["data_collator"] = MultiTaskDataCollator(kwargs["processing_class"], self.tasks)
        if kwargs.get("compute_metrics") is None:
            kwargs["compute_metrics"] = build_compute_metrics(self.tasks)
        if args.n_gpu > 1:
            logger.warning("Using one of %d GPUs: start with torchrun or accelerate launch to use all.", args.n_gpu)
            args._n_gpu = 1
        super().__init__(model=model, args=args, **kwargs)
        # Sums since the last log, on the device: reading them at every step would wait for it.
        self._task_losses: torch.Tensor | None = None
        self._steps_since_log = 0

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train, as ``Trainer.train`` does; with every group frozen do nothing and say so."""
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            logger.warning("Every group is frozen: nothing will be learned. The model is a baseline as it is.")
            return TrainOutput(global_step=0, training_loss=0.0, metrics={})
        self._task_losses, self._steps_since_log = None, 0
        return super().train(*args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer with a learning rate for the encoder and one for the heads.

        Frozen parameters are in it too: without a gradient they cost no update and no optimizer state.

        Raises:
            ValueError: If ``args.optim`` names an optimizer that makes parameter groups of its own.
        """
        if self.optimizer is not None:
            return self.optimizer
        optimizer_class, kwargs = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
            self.args, self.model
        )
        if not isinstance(optimizer_class, type) or kwargs.keys() & {"params", "model", "optimizer_dict"}:
            raise ValueError(
                f"optim={self.args.optim!r} makes parameter groups of its own, which leaves no learning rate for the "
                "heads; choose an optimizer such as adamw_torch_fused, sgd or adafactor."
            )
        self.optimizer = optimizer_class(self._parameter_groups(model or self.model), **kwargs)
        return self.optimizer

    def _parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Split the parameters into encoder and heads, with and without weight decay (none for biases and norms)."""
        decayed = set(self.get_decay_parameter_names(model))
        groups = {
            (part, decay): {"params": [], "lr": rate, "weight_decay": decay, "part": part}
            for part, rate in (("encoder", self.args.learning_rate), ("heads", self.args.peak_head_learning_rate))
            for decay in (self.args.weight_decay, 0.0)
        }
        for name, parameter in model.named_parameters():
            part = "heads" if "heads" in name.split(".") else "encoder"
            groups[part, self.args.weight_decay if name in decayed else 0.0]["params"].append(parameter)
        return [group for group in groups.values() if group["params"]]

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, dict[str, torch.Tensor] | None]:
        """Take the batches of one optimizer step and count each task's labelled items in all of them.

        Returns:
            The batches, and by task the number of labelled items on all processes: what its loss is divided by, so
            that accumulation and the number of processes do not change it.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._steps_since_log += 1
        if not batches or "labels" not in batches[0]:
            return batches, None
        counts = torch.stack(
            [
                torch.stack([count_labelled(task, batch["labels"][task.name]).sum() for batch in batches]).sum()
                for task in self.tasks
            ]
        ).to(device)
        if self._counts_are_global:
            counts = self.accelerator.reduce(counts, reduction="sum")
        return batches, {task.name: count for task, count in zip(self.tasks, counts, strict=True)}

    @property
    def _counts_are_global(self) -> bool:
        return self.args.average_tokens_across_devices and self.args.world_size > 1

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss as ``Trainer`` does, and keep each task's for the log."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if model.training and outputs.losses is not None:
            losses = torch.stack([outputs.losses[task.name] for task in self.tasks]).detach()
            if self._counts_are_global:
                losses = losses * self.args.world_size
            self._task_losses = losses if self._task_losses is None else self._task_losses + losses
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as ``Trainer`` does, with each task's training loss beside the whole."""
        if "loss" in logs and self._task_losses is not None:
            means = self.accelerator.reduce(self._task_losses, reduction="mean") / self._steps_since_log
            logs |= {f"{task.name}_loss": mean for task, mean in zip(self.tasks, means.tolist(), strict=True)}
            self._task_losses, self._steps_since_log = None, 0
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        lengths = self._lengths(dataset)
        if lengths is None:
            return super()._get_train_sampler(dataset)
        rows_a_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(lengths, rows_a_step, seed, epoch=lambda: int(self.state.epoch or 0))

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        lengths = self._lengths(eval_dataset)
        return super()._get_eval_sampler(eval_dataset) if lengths is None else LengthSortedSampler(lengths)

    def _lengths(self, dataset: Dataset | None) -> list[int] | None:
        """Return the rows' lengths if batches of like length are wanted and the lengths are known."""
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, datasets.Dataset):
            return None
        column = self.args.length_column_name
        return list(dataset[column]) if column in dataset.column_names else None

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, dict[str, Any] | None, dict[str, torch.Tensor] | None]:
        """Predict a batch and reduce it on the device to label ids and sums of losses.

        Returns:
            The batch's loss; by task ``ids`` (what `decode` returns) and, with labels, ``loss`` and ``count`` by
            row; and the labels by task.
        """
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels", None)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs: MultiTaskOutput = model(**inputs)
        logits = outputs["logits"]
        predictions: dict[str, Any] = {}
        loss = None if labels is None else torch.zeros((), device=self.args.device)
        for task in self.tasks:
            found = {"ids": decode(task, logits[task.name], inputs.get("tag_positions"))}
            if labels is not None:
                found["loss"] = example_losses(task, logits[task.name], labels[task.name])
                found["count"] = count_labelled(task, labels[task.name])
                loss = loss + task.loss_weight * found["loss"].sum() / found["count"].sum().clamp(min=1)
            predictions[task.name] = found
        return loss, None if prediction_loss_only else predictions, None if prediction_loss_only else labels

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Run evaluation as ``Trainer`` does, and put the rows back into the data set's order."""
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        sampler = _find_sampler(dataloader)
        if not isinstance(sampler, LengthSortedSampler):
            return output
        order = np.argsort(sampler.order)
        return output._replace(predictions=_take(output.predictions, order), label_ids=_take(output.label_ids, order))


def _find_sampler(dataloader: Any) -> Any:
    """Return the sampler at the bottom of what accelerate wraps around it."""
    sampler: Any = getattr(dataloader, "batch_sampler", None)
    while hasattr(sampler, "batch_sampler"):
        sampler = sampler.batch_sampler
    return getattr(sampler, "sampler", None)


def _take(values: Any, order: np.ndarray) -> Any:
    """Reorder the rows of arrays in nested mappings."""
    if isinstance(values, Mapping):
        return {name: _take(value, order) for name, value in values.items()}
    return None if values is None else values[order]
