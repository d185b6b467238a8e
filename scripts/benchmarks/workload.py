"""The rows that all trainers of a comparison train on, and the arguments that they share."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import transformers
from transformers import PreTrainedTokenizerBase

from hf_multitask import load_tokenizer, prepare_datasets
from hf_multitask.data import PreparedData
from hf_multitask.models.encoder_loading import find_model, load_config

from .rows import TASKS, generate_rows

SEED = 0


@dataclass(frozen=True)
class Workload:
    """Rows with intents and slots, ready for training.

    Args:
        encoder: Hub name or folder of the encoder.
        rows: The rows as they were read.
        data: The same as token ids and label ids, in the split ``train``.
        tokenizer: The encoder's tokenizer.
        batch_size: Rows a step.
        device: ``"cpu"`` or ``"cuda"``.
    """

    encoder: str
    rows: list[dict[str, Any]]
    data: PreparedData
    tokenizer: PreTrainedTokenizerBase
    batch_size: int = 32
    device: str = "cpu"

    @property
    def encoder_folder(self) -> str:
        """Where stock classes of transformers find the encoder."""
        return find_model(self.encoder)

    @property
    def num_layers(self) -> int:
        """Number of the encoder's layers."""
        return load_config(self.encoder_folder).num_hidden_layers

    @property
    def num_labels(self) -> dict[str, int]:
        """Number of labels by task."""
        return {task.name: task.num_labels for task in self.data.tasks}

    def training_arguments(self, output_dir: str, epochs: float) -> dict[str, Any]:
        """Return the arguments that every Trainer is given; all others are left at their defaults."""
        return {
            "output_dir": output_dir,
            "num_train_epochs": epochs,
            "per_device_train_batch_size": self.batch_size,
            "learning_rate": 5e-5,
            "seed": SEED,
            "use_cpu": self.device == "cpu",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }


def make_workload(encoder: str, rows: Sequence[dict[str, Any]], batch_size: int = 32, device: str = "cpu") -> Workload:
    """Prepare rows for training.

    Args:
        encoder: Hub name or folder of the encoder.
        rows: Rows with ``tokens``, ``slots`` and ``intent``.
        batch_size: Rows a step.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        The workload.
    """
    tokenizer = load_tokenizer(encoder)
    data = prepare_datasets({"train": list(rows)}, tokenizer, TASKS)
    return Workload(encoder, list(rows), data, tokenizer, batch_size, device)


def read_rows(folder: Path | None, count: int, split: str = "train") -> list[dict[str, Any]]:
    """Return the first rows of a file of a folder, or generated ones.

    Args:
        folder: The folder; rows are generated where None.
        count: Number of rows; those of the file are repeated where it has fewer.
        split: Name of the file in front of ``.jsonl``.

    Returns:
        The rows.
    """
    if folder is None:
        return list(generate_rows(count))
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, count)]
    return list(itertools.islice(itertools.cycle(rows), count))


def silence_libraries() -> None:
    """Let nothing but the tables be printed: no progress bars, no warnings of transformers."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
