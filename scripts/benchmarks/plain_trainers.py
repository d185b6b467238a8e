"""Baselines with the stock ``Trainer``, as users write them: a model per task, or one module with both heads."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from .timing import time_steps, time_training
from .workload import SEED, Workload

IGNORE_INDEX = -100
ENCODER_COLUMNS = ("input_ids", "token_type_ids", "attention_mask")


def _encoded_rows(work: Workload) -> list[dict[str, Any]]:
    """Return rows of token ids, the intent, and slots: the first subword of a word has its label, the others none."""
    rows = []
    for row in work.data["train"]:
        slots = [IGNORE_INDEX] * len(row["input_ids"])
        for position, label in zip(row["tag_positions"], row["labels"]["slots"], strict=True):
            if position >= 0:
                slots[position] = label
        columns = {name: row[name] for name in ENCODER_COLUMNS if name in row}
        rows.append({**columns, "intent_labels": row["labels"]["intent"], "slot_labels": slots})
    return rows


class SingleTaskTrainers:
    """Stock models, one per task, trained one after the other.

    Args:
        work: Workload.
    """

    def __init__(self, work: Workload) -> None:
        self.work = work
        rows = Dataset.from_list(_encoded_rows(work))
        self.intents = rows.remove_columns("slot_labels").rename_column("intent_labels", "labels")
        self.slots = rows.remove_columns("intent_labels").rename_column("slot_labels", "labels")

    def time(self, epochs: float) -> float:
        """Return the seconds of training both models."""
        return self._time_both(time_training, epochs)

    def time_steps(self, **options: Any) -> float:
        """Return the seconds per step of both models together; ``options`` are training arguments."""
        return self._time_both(time_steps, 1, **options)

    def _time_both(self, timed: Callable[[Trainer], float], epochs: float, **options: Any) -> float:
        folder, num_labels, tokenizer = self.work.encoder_folder, self.work.num_labels, self.work.tokenizer
        set_seed(SEED)
        classifier = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_labels["intent"])
        tagger = AutoModelForTokenClassification.from_pretrained(folder, num_labels=num_labels["slots"])
        runs: list[tuple[nn.Module, Dataset, Any]] = [
            (classifier, self.intents, DataCollatorWithPadding(tokenizer)),
            (tagger, self.slots, DataCollatorForTokenClassification(tokenizer)),
        ]
        seconds = 0.0
        for model, rows, collator in runs:
            with tempfile.TemporaryDirectory() as output_dir:
                arguments = TrainingArguments(**self.work.training_arguments(output_dir, epochs), **options)
                seconds += timed(Trainer(model, arguments, train_dataset=rows, data_collator=collator))
        return seconds


class JointModule(nn.Module):
    """An encoder with mean pooling and two linear heads, as users write it by hand.

    Args:
        encoder: Encoder with the module names of BERT.
        num_labels: Number of labels of ``intent`` and ``slots``.
    """

    def __init__(self, encoder: Any, num_labels: dict[str, int]) -> None:
        super().__init__()
        encoder.pooler = None  # no head reads it
        self.encoder = encoder
        self.dropout = nn.Dropout(0.1)
        hidden_size = encoder.config.hidden_size
        self.heads = nn.ModuleDict({name: nn.Linear(hidden_size, count) for name, count in num_labels.items()})

    @property
    def layers(self) -> nn.ModuleList:
        """The layers of the encoder from the bottom up."""
        return self.encoder.encoder.layer

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        intent_labels: torch.Tensor,
        slot_labels: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the sum of both cross-entropy losses, and the logits."""
        states = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
        intents = self.heads["intent"](self.dropout(pooled))
        slots = self.heads["slots"](self.dropout(states))
        loss = functional.cross_entropy(intents, intent_labels) + functional.cross_entropy(
            slots.flatten(0, 1), slot_labels.flatten(), ignore_index=IGNORE_INDEX
        )
        return {"loss": loss, "intent_logits": intents, "slot_logits": slots}


@dataclass
class JointCollator:
    """Collator that pads token ids with the tokenizer, and the slots to the same length.

    Args:
        tokenizer: The tokenizer.
    """

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch."""
        columns = [{name: row[name] for name in ENCODER_COLUMNS if name in row} for row in rows]
        batch = dict(self.tokenizer.pad(columns, return_tensors="pt"))
        length = batch["input_ids"].size(1)
        slots = [row["slot_labels"] + [IGNORE_INDEX] * (length - len(row["slot_labels"])) for row in rows]
        batch["slot_labels"] = torch.tensor(slots)
        batch["intent_labels"] = torch.tensor([row["intent_labels"] for row in rows])
        return batch


def train_upper_layers(module: JointModule, count: int) -> None:
    """Freeze all but the heads and the upper layers.

    Args:
        module: The module.
        count: Number of trainable layers.
    """
    module.encoder.requires_grad_(False)
    for layer in module.layers[len(module.layers) - count :]:
        layer.requires_grad_(True)


class GradualUnfreezing(TrainerCallback):
    """Callback that trains the heads in the first epoch and one more layer, from the top, in each next epoch.

    It freezes layers after the optimizer was created, so that the optimizer contains all weights from the start.
    """

    def __init__(self) -> None:
        self.num_trainable = 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Freeze the layers that are not trained in this epoch."""
        train_upper_layers(model, self.num_trainable)
        self.num_trainable = min(self.num_trainable + 1, len(model.layers))


class JointModuleTrainer:
    """The stock ``Trainer`` of a `JointModule` with frozen layers.

    Args:
        work: Workload.
    """

    def __init__(self, work: Workload) -> None:
        self.work = work
        self.rows = Dataset.from_list(_encoded_rows(work))

    def build(self, output_dir: str, epochs: float, trained_layers: int | None = 0) -> Trainer:
        """Build a trainer of a module with new heads.

        Args:
            output_dir: Output folder of the trainer.
            epochs: Number of epochs.
            trained_layers: Number of trainable upper layers. If None, one more in each epoch.

        Returns:
            The trainer.
        """
        set_seed(SEED)
        module = JointModule(AutoModel.from_pretrained(self.work.encoder_folder), self.work.num_labels)
        if trained_layers is not None:
            train_upper_layers(module, trained_layers)
        return Trainer(
            module,
            TrainingArguments(**self.work.training_arguments(output_dir, epochs)),
            train_dataset=self.rows,
            data_collator=JointCollator(self.work.tokenizer),
            callbacks=[GradualUnfreezing()] if trained_layers is None else None,
        )

    def time(self, epochs: float, trained_layers: int | None = 0) -> float:
        """Return the seconds of training; see `build`."""
        with tempfile.TemporaryDirectory() as folder:
            return time_training(self.build(folder, epochs, trained_layers))
