"""Rows that all trainers of a comparison train on, and their common arguments."""

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
        rows: Rows as they were read.
        data: The same rows as token ids and label ids, in the split ``train``.
        tokenizer: Tokenizer of the encoder.
        batch_size: Number of rows per step.
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
        """Path from which stock classes of transformers load the encoder."""
        return find_model(self.encoder)

    @property
    def num_layers(self) -> int:
        """Number of layers of the encoder."""
        return load_config(self.encoder_folder).num_hidden_layers

    @property
    def num_labels(self) -> dict[str, int]:
        """Number of labels by task."""
        return {task.name: task.num_labels for task in self.data.tasks}

    def training_arguments(self, output_dir: str, epochs: float) -> dict[str, Any]:
        """Return the arguments of every trainer. All others keep their defaults."""
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
        batch_size: Number of rows per step.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        The workload.
    """
    tokenizer = load_tokenizer(encoder)
    data = prepare_datasets({"train": list(rows)}, tokenizer, TASKS)
    return Workload(encoder, list(rows), data, tokenizer, batch_size, device)


def read_rows(folder: Path | None, count: int, split: str = "train") -> list[dict[str, Any]]:
    """Return the first rows of a split, or generated rows.

    Args:
        folder: Folder with JSONL files. If None, rows are generated.
        count: Number of rows. If the file has fewer, they are repeated.
        split: Name of the file without ``.jsonl``.

    Returns:
        The rows.
    """
    if folder is None:
        return list(generate_rows(count))
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, count)]
    return list(itertools.islice(itertools.cycle(rows), count))


def silence_libraries() -> None:
    """Turn off progress bars and warnings, so that only the tables are printed."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
