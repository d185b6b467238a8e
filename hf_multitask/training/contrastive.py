"""Contrastive warm-up of the encoder before a training: texts with the same label move together, others apart."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, extract_model_from_parallel
from datasets import Dataset
from torch import nn
from torch.nn import functional
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data import MultiTaskDataCollator, TrainingStream
from ..models import MultiTaskModel, TaskConfig
from ..models.encoder_pooling import mean_of_windows, pool
from ..models.field_types import check_fields
from ..models.layer_groups import LayerGroups
from ..models.losses import IGNORE_INDEX
from ..models.messages import unknown_name_message
from ..models.tasks import MULTI_LABEL, REGRESSION
from ..models.type_aliases import Batch

logger = logging.getLogger(__name__)

# Rows of a label that are drawn together, so that each has others of its label in the batch.
ROWS_PER_LABEL = 4
WARMUP_SHARE = 0.1
# Names in ``trainer.state.log_history``.
LOSS, STEPS, SECONDS = "contrastive_loss", "contrastive_steps", "contrastive_runtime"


@dataclass
class ContrastiveConfig:
    """Contrastive warm-up of the encoder.

    Args:
        tasks: Names of the tasks whose labels say which texts belong together. Defaults to all tasks that
            give a text one label.
        epochs: Number of passes over the training rows for each task.
        batch_size: Maximum number of rows per step. A text is compared with all others of its batch.
        learning_rate: Peak learning rate. It rises over the first tenth of the steps and falls to zero.
        temperature: Divisor of the cosine similarities. The lower it is, the more the closest texts count.
        freeze: Selectors of groups that do not train in the warm-up. The ``freeze`` of a run is for the training
            after it.

    Raises:
        ValueError: If a value is not allowed.
    """

    tasks: list[str] | None = None
    epochs: int = 10
    batch_size: int = 64
    learning_rate: int | float = 2e-4
    temperature: int | float = 0.1
    freeze: str | list[str] = "none"

    def __post_init__(self) -> None:
        check_fields(self, "contrastive: ")
        for name, least in (("epochs", 1), ("batch_size", 2)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"contrastive: {name} must be at least {least}, found {value}.")
        for name in ("learning_rate", "temperature"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"contrastive: {name} must be a positive number, found {value}.")
        if self.tasks is not None and not self.tasks:
            raise ValueError("contrastive: tasks is empty; leave it out for all tasks that give a text one label.")


class ContrastiveCallback(TrainerCallback):
    """Warms up the encoder of a `MultiTaskModel` before the first step of a training.

    Give it to the trainer's constructor: ``MultiTaskTrainer(callbacks=[ContrastiveCallback(…)])``. It does nothing in
    a training that resumes from a checkpoint, whose weights are warmed up already. Weights without ``requires_grad``
    stay as they are. Every process computes the same warm-up. It draws random numbers of its own, so that the training
    after it sees the same ones as without it.

    Args:
        train_dataset: Prepared training rows.
        collator: Collator of the tasks.
        config: Settings. Defaults to ``ContrastiveConfig()``.

    Raises:
        ValueError: If a task is unknown or does not give a text one label, the rows are streamed, or no two rows have
            the same label.
    """

    def __init__(
        self,
        train_dataset: Dataset | TrainingStream,
        collator: MultiTaskDataCollator,
        config: ContrastiveConfig | None = None,
    ) -> None:
        if isinstance(train_dataset, TrainingStream):
            raise ValueError("contrastive: the warm-up compares rows of the whole training split; it cannot stream.")
        self.config = config or ContrastiveConfig()
        self.rows, self.collator = train_dataset, collator
        labels = train_dataset["labels"]
        self.labels = {
            task.name: {i: row[task.name] for i, row in enumerate(labels) if row[task.name] > IGNORE_INDEX}
            for task in contrasted_tasks(collator.tasks, self.config.tasks)
        }
        for name, by_row in self.labels.items():
            if len(set(by_row.values())) == len(by_row):
                raise ValueError(f"contrastive: task {name!r} has no two training rows with the same label.")

    def on_init_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        """Check the groups that do not train.

        Raises:
            ValueError: If a selector is unknown, or nothing is left to train.
        """
        if isinstance(model, MultiTaskModel):
            self._trained(model.layer_groups())

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        """Train the encoder, unless the training resumes.

        Raises:
            ValueError: If the model is another one, its weights are sharded, or nothing is left to train.
        """
        if state.global_step > 0:
            return
        if AcceleratorState().distributed_type == DistributedType.FSDP:
            raise ValueError("contrastive: the warm-up needs all weights on each process; FSDP shards them.")
        module = extract_model_from_parallel(model, keep_torch_compile=False)
        if not isinstance(module, MultiTaskModel):
            raise ValueError(f"contrastive: expected a MultiTaskModel, found {type(module).__name__}.")
        devices = [args.device] if args.device.type == "cuda" else []
        start = time.perf_counter()
        with torch.random.fork_rng(devices):
            torch.manual_seed(args.seed)
            losses = self._train(module, args)
        seconds = time.perf_counter() - start
        logger.info("Contrastive warm-up: %d steps, loss %.4f to %.4f.", len(losses), losses[0], losses[-1])
        entry = {LOSS: losses[-1], STEPS: len(losses), SECONDS: round(seconds, 4), "epoch": 0.0, "step": 0}
        state.log_history.append(entry)

    def _train(self, model: MultiTaskModel, args: TrainingArguments) -> list[float]:
        """Train the encoder and return the loss of each step."""
        weights = self._trained(model.layer_groups())
        optimizer = torch.optim.AdamW(weights, lr=self.config.learning_rate, weight_decay=0.0)
        generator = np.random.default_rng(args.seed)
        batches = [
            (name, batch)
            for _ in range(self.config.epochs)
            for name, labels in self.labels.items()
            for batch in draw_batches(labels, self.config.batch_size, generator)
        ]
        was_training = model.training
        model.train()
        losses = []
        for step, (name, rows) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * _rate_factor(step, len(batches))
            batch = _to_device(self.collator([self.rows[i] for i in rows]), args.device)
            labels = torch.tensor([self.labels[name][i] for i in rows], device=args.device)
            with torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
                vectors = text_vectors(model, batch)
            loss = supervised_contrastive_loss(vectors.float(), labels, self.config.temperature)
            loss.backward()
            nn.utils.clip_grad_norm_(weights, args.max_grad_norm or math.inf)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        if args.world_size > 1:
            # Kernels of a GPU may round differently on each process.
            for weight in weights:
                torch.distributed.broadcast(weight.data, 0)
        model.train(was_training)
        return torch.stack(losses).tolist()

    def _trained(self, groups: LayerGroups) -> list[nn.Parameter]:
        frozen = {*groups.select(self.config.freeze), *groups.select("heads")}
        names = [group.name for group in groups if group.name not in frozen]
        weights = [weight for weight in groups.parameters_of(names).values() if weight.requires_grad]
        if not weights:
            raise ValueError(
                f"contrastive: nothing of the encoder trains in the warm-up; freeze is {self.config.freeze!r}, and "
                "weights without requires_grad stay as they are."
            )
        return weights


def contrasted_tasks(tasks: Sequence[TaskConfig], names: Sequence[str] | None) -> list[TaskConfig]:
    """Return the tasks whose labels say which texts belong together.

    Args:
        tasks: All tasks.
        names: Names of the wanted tasks; None for all that give a text one label.

    Returns:
        The tasks.

    Raises:
        ValueError: If a wanted task is unknown or does not give a text one label, or no task does.
    """
    allowed = {
        task.name: task
        for task in tasks
        if not task.is_token_task and task.problem_type not in (MULTI_LABEL, REGRESSION)
    }
    if not allowed:
        raise ValueError("contrastive: expected a task that gives a text one label, found none.")
    for name in names or ():
        if name not in allowed:
            raise ValueError(f"contrastive: {unknown_name_message('task with one label per text', name, allowed)}")
    return [allowed[name] for name in names or allowed]


def supervised_contrastive_loss(vectors: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the supervised contrastive loss (Khosla et al., 2020, equation 2) of a batch.

    For each text, it is the mean negative log-probability of the other texts with its label, under a softmax over the
    cosine similarities to all other texts. A text whose label no other has is only compared with.

    Args:
        vectors: Vectors of the texts (batch, hidden).
        labels: Label ids (batch,). At least two are equal.
        temperature: Divisor of the similarities.

    Returns:
        The mean over the texts that have others with their label.
    """
    vectors = functional.normalize(vectors, dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    similarities = (vectors @ vectors.T / temperature).masked_fill(itself, -math.inf)
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself
    log_probabilities = similarities.log_softmax(1).masked_fill(~same, 0.0)
    counts = same.sum(1)
    return -(log_probabilities.sum(1) / counts.clamp(min=1)).sum() / (counts > 0).sum()


def draw_batches(labels: Mapping[int, int], batch_size: int, generator: np.random.Generator) -> list[list[int]]:
    """Divide rows into random batches, in which rows of the same label come in groups that no batch divides.

    Args:
        labels: Label ids by row number.
        batch_size: Maximum number of rows per batch.
        generator: Random generator.

    Returns:
        Row numbers by batch. A batch without two rows of the same label is left out.
    """
    by_label: dict[int, list[int]] = defaultdict(list)
    for row, label in labels.items():
        by_label[label].append(row)
    parts: list[list[int]] = []
    size = min(ROWS_PER_LABEL, batch_size)
    for rows in by_label.values():
        rows = generator.permutation(rows).tolist()
        parts += [rows[i : i + size] for i in range(0, len(rows), size)]
    batches: list[list[int]] = [[]]
    for i in generator.permutation(len(parts)):
        if len(batches[-1]) + len(parts[i]) > batch_size:
            batches.append([])
        batches[-1] += parts[i]
    return [batch for batch in batches if len({labels[row] for row in batch}) < len(batch)]


def text_vectors(model: MultiTaskModel, batch: Batch) -> torch.Tensor:
    """Return the pooled states that the heads of sequence tasks read.

    Args:
        model: The model.
        batch: Batch of the collator.

    Returns:
        Vectors (batch, hidden). For a text in windows, the mean of its windows, weighted by their numbers of tokens.
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    states = model.encoder(**inputs).last_hidden_state
    vectors = pool(states, batch.get("attention_mask"), model.config.pooling)
    if "row_windows" not in batch:
        return vectors
    return mean_of_windows(vectors, batch.get("attention_mask"), batch["row_windows"])


def _rate_factor(step: int, steps: int) -> float:
    """Return the share of the peak rate: a rise over the first steps, then a fall to zero."""
    return min((step + 1) / max(WARMUP_SHARE * steps, 1.0), 1.0) * (1 - step / steps)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
