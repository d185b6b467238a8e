"""Frozen heads on an encoder that trains: the drift of their inputs, and distillation that protects their tasks."""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import datasets
import torch
from torch.nn import functional

from ..models.collator import TEACHER_COLUMN
from ..models.encoder_pooling import pool
from ..models.modeling_multitask import MultiTaskModel
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.type_aliases import Batch, Row

# Number of validation rows on which drift is measured.
DRIFT_ROWS = 64
# The best temperature of Li and Hoiem 2016, "Learning without Forgetting", section 3.
TEMPERATURE = 2.0


def drift_sample(
    dataset: datasets.Dataset, collate: Callable[[list[Row]], Batch], device: torch.device
) -> dict[str, torch.Tensor]:
    """Return a batch of at most `DRIFT_ROWS` rows spread over a dataset, the same at each call.

    Args:
        dataset: Prepared rows.
        collate: Data collator.
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
        batch: Output of the data collator.

    Returns:
        ``pooled`` (batch, hidden), with one row per window if rows have several, and ``tokens`` (num_tokens, hidden)
        without padding.
    """
    parts: list[torch.Tensor] = []  # several if rows have many windows
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
        before: Output of `encode_sample` at the start.
        now: Current output for the same batch.

    Returns:
        The means ``drift_pooled`` and ``drift_tokens``.
    """
    return {
        f"drift_{kind}": (1 - functional.cosine_similarity(before[kind].to(states.device), states, dim=-1))
        .mean()
        .item()
        for kind, states in now.items()
    }


class Teacher:
    """Copy of the model at the start of a stage, whose outputs protected tasks learn to keep.

    Args:
        model: Model at the start of the stage.
        weights: Weight of the distance in the loss, by task.
        autocast: Return the context of the mixed precision that the trainer runs the model in.
    """

    def __init__(
        self, model: MultiTaskModel, weights: Mapping[str, float], autocast: Callable[[], AbstractContextManager]
    ) -> None:
        self.model = copy.deepcopy(model)
        # The forward that accelerate has wrapped, for autocast too, belongs to the model that trains.
        self.model.__dict__.pop("forward", None)
        self.model.requires_grad_(False)
        self.model.eval()
        self.weights = dict(weights)
        self.autocast = autocast
        self.tasks = [task for task in model.config.tasks if task.name in self.weights]

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load the weights of the start of the stage, from which the model has moved since."""
        self.model.load_state_dict(weights, strict=False)

    def losses(
        self, inputs: Batch, logits: Mapping[str, torch.Tensor], counts: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Compute the distance between the model's and the teacher's outputs, by task.

        Args:
            inputs: The batch.
            logits: Logits of the model by task.
            counts: Number of rows or words to divide the sum by, by task.

        Returns:
            Distances by task, without their weights.
        """
        # The teacher's layers may differ from the layers whose states are cached.
        left_out = ("labels", "stored_states", "entering", TEACHER_COLUMN)
        with torch.no_grad(), self.autocast():
            teacher_logits = self.model(
                **{name: value for name, value in inputs.items() if name not in left_out}, return_dict=True
            ).logits
        return {
            task.name: distances(task, logits[task.name], teacher_logits[task.name], inputs).sum()
            / counts[task.name].clamp(min=1)
            for task in self.tasks
        }


def distances(
    task: TaskConfig,
    logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    inputs: Batch,
    temperature: float = TEMPERATURE,
) -> torch.Tensor:
    """Compute the distance between a task's logits and the teacher's.

    Cross entropy of the softened probabilities minus its minimum, times the temperature squared so that gradients have
    the size of the task's own; binary cross entropy for multi-label tasks; squared error for regression.

    Args:
        task: The task.
        logits: Logits of the model (batch, …, num_labels).
        teacher_logits: Logits of the teacher, of the same shape.
        inputs: The batch.
        temperature: Divisor of the logits, which makes probabilities more even.

    Returns:
        Distance per row, or per word for a token task; 0 at padding.
    """
    logits, teacher_logits = logits.float(), teacher_logits.float()
    if task.problem_type == REGRESSION:
        return functional.mse_loss(logits, teacher_logits, reduction="none").sum(-1)
    if task.problem_type == MULTI_LABEL:
        targets = teacher_logits.sigmoid()
        minimum = functional.binary_cross_entropy_with_logits(teacher_logits, targets, reduction="none")
        return (functional.binary_cross_entropy_with_logits(logits, targets, reduction="none") - minimum).sum(-1)
    log_probs = functional.log_softmax(logits / temperature, dim=-1)
    targets = functional.log_softmax(teacher_logits / temperature, dim=-1)
    divergence = functional.kl_div(log_probs, targets, log_target=True, reduction="none").sum(-1) * temperature**2
    return divergence * (inputs["tag_positions"] >= 0) if task.is_token_task else divergence


def count_items(task: TaskConfig, inputs: Batch) -> torch.Tensor:
    """Count the rows of a batch, or its words for a token task."""
    if task.is_token_task:
        return (inputs["tag_positions"] >= 0).sum()
    # Filled on the device: copying a number from the host would synchronize.
    return inputs["input_ids"].new_full((), len(inputs["row_windows" if "row_windows" in inputs else "input_ids"]))
