"""Heads that are frozen while the encoder below them trains: how far their inputs drift, and how they are held."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import datasets
import torch
from torch.nn import functional

from ..models.encoder_pooling import pool
from ..models.modeling_multitask import MultiTaskModel
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.type_aliases import Batch, Row

# Rows of the validation set on which drift is measured.
DRIFT_ROWS = 64
# Li and Hoiem 2016, "Learning without Forgetting", section 3: the temperature that they found best.
TEMPERATURE = 2.0


def drift_sample(
    dataset: datasets.Dataset, collate: Callable[[list[Row]], Batch], device: torch.device
) -> dict[str, torch.Tensor]:
    """Return a batch of at most ``DRIFT_ROWS`` rows spread over a dataset, the same at each call.

    Args:
        dataset: Prepared rows.
        collate: The collator.
        device: Device of the model.

    Returns:
        The tensors of the batch, without labels, on the device.
    """
    every = max(len(dataset) // DRIFT_ROWS, 1)
    batch = collate([dataset[i] for i in range(0, len(dataset), every)][:DRIFT_ROWS])
    return {name: value.to(device) for name, value in batch.items() if torch.is_tensor(value)}


@torch.no_grad()
def encode_sample(model: MultiTaskModel, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Run the encoder on a batch, without dropout.

    Args:
        model: The model.
        batch: What the collator returns.

    Returns:
        ``pooled`` (batch, hidden), one of each window where rows have several, and ``tokens`` (num_tokens, hidden),
        padding left out.
    """
    parts: list[torch.Tensor] = []  # several, where rows have many windows
    hook = model.encoder.register_forward_hook(lambda _, __, output: parts.append(output[0].float()))
    was_training = model.training
    model.eval()
    try:
        model(**{name: value for name, value in batch.items() if name != "labels"})
    finally:
        hook.remove()
        model.train(was_training)
    mask = batch["attention_mask"]
    states = torch.cat(parts)
    return {"pooled": pool(states, mask, model.config.pooling), "tokens": states[mask.bool()]}


def drift(before: Mapping[str, torch.Tensor], now: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Measure how far states have moved: the mean of 1 − cosine.

    Args:
        before: What `encode_sample` returned at the start.
        now: What it returns now, for the same batch.

    Returns:
        The means, ``drift_pooled`` and ``drift_tokens``.
    """
    return {
        f"drift_{kind}": (1 - functional.cosine_similarity(before[kind].to(states.device), states, dim=-1))
        .mean()
        .item()
        for kind, states in now.items()
    }


class Teacher:
    """A task's own outputs at the stage's start, which it learns to keep.

    Args:
        model: The model as it is at the stage's start.
        weights: By task, the weight of the distance in the loss.
    """

    def __init__(self, model: MultiTaskModel, weights: Mapping[str, float]) -> None:
        self.model = copy.deepcopy(model)
        # What accelerate puts in front of forward belongs to the model that trains.
        self.model.__dict__.pop("forward", None)
        self.model.requires_grad_(False)
        self.model.eval()
        self.weights = dict(weights)
        self.tasks = [task for task in model.config.tasks if task.name in self.weights]

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take back weights that have changed since the stage's start."""
        self.model.load_state_dict(weights, strict=False)

    def losses(
        self, inputs: Mapping[str, Any], logits: Mapping[str, torch.Tensor], counts: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Compute the distance of a batch's outputs to the teacher's, by task.

        Args:
            inputs: The batch.
            logits: The model's logits by task.
            counts: By task, the number of rows or words that the sum is divided by.

        Returns:
            The distances, not weighted.
        """
        # The teacher's layers may differ from those whose states are stored.
        left_out = ("labels", "stored_states", "entering")
        with torch.no_grad():
            taught = self.model(**{name: value for name, value in inputs.items() if name not in left_out}).logits
        return {
            task.name: distances(task, logits[task.name], taught[task.name], inputs).sum()
            / counts[task.name].clamp(min=1)
            for task in self.tasks
        }


def distances(task: TaskConfig, logits: torch.Tensor, taught: torch.Tensor, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Measure how far a task's outputs are from the teacher's.

    Cross entropy of the softened probabilities less its least value, times the temperature squared, so that gradients
    are of the size of the task's own; binary cross entropy for several labels; squared error for numbers.

    Args:
        task: The task.
        logits: The model's logits (batch, …, num_labels).
        taught: The teacher's.
        inputs: The batch.

    Returns:
        The distance of each row, or each word of a token task; 0 where a row ends before.
    """
    logits, taught = logits.float(), taught.float()
    if task.problem_type == REGRESSION:
        return functional.mse_loss(logits, taught, reduction="none").sum(-1)
    if task.problem_type == MULTI_LABEL:
        wanted = taught.sigmoid()
        least = functional.binary_cross_entropy_with_logits(taught, wanted, reduction="none")
        return (functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") - least).sum(-1)
    found = functional.log_softmax(logits / TEMPERATURE, dim=-1)
    wanted = functional.log_softmax(taught / TEMPERATURE, dim=-1)
    divergence = functional.kl_div(found, wanted, log_target=True, reduction="none").sum(-1) * TEMPERATURE**2
    return divergence * (inputs["tag_positions"] >= 0) if task.is_token_task else divergence


def count_items(task: TaskConfig, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Count the rows of a batch, or for a token task its words."""
    if task.is_token_task:
        return (inputs["tag_positions"] >= 0).sum()
    # Filled on the device: a number that is sent there would be waited for.
    return inputs["input_ids"].new_full((), len(inputs.get("row_windows", inputs["input_ids"])))
