"""Cost of mixing: training batches of two datasets compared with batches of one dataset with the same rows."""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from hf_multitask import DataConfig, MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments, prepare_datasets
from hf_multitask.data import Sampling
from hf_multitask.data.batches.mixing import STRATEGIES

from .rows import TASKS
from .timing import compare

BATCH_SIZE = 32


def compare_mixing(
    rows: Sequence[dict[str, Any]], encoder: str, tokenizer: PreTrainedTokenizerBase, repeats: int
) -> dict[str, dict[str, Any]]:
    """Compare passes over the trainer's batches: order, fetching and collating.

    Args:
        rows: The rows. Each half is one of the two datasets.
        encoder: Hub name or folder of the encoder.
        tokenizer: Tokenizer of the encoder.
        repeats: Number of rounds.

    Returns:
        Result of `compare` for ``one_data_set``, and for two datasets mixed with each strategy.
    """
    one = prepare_datasets({"train": rows}, tokenizer, TASKS)
    half = len(rows) // 2
    halves = [DataConfig(train=list(part)) for part in (rows[:half], rows[half:])]
    two = prepare_datasets(halves, tokenizer, one.tasks)
    model = MultiTaskModel.from_encoder(encoder, one.tasks)
    with tempfile.TemporaryDirectory() as folder:
        arguments = MultiTaskTrainingArguments(
            folder, per_device_train_batch_size=BATCH_SIZE, use_cpu=True, report_to="none"
        )

        def training_pass(train: datasets.Dataset, strategy: str) -> Callable[[], None]:
            trainer = MultiTaskTrainer(
                model, arguments, sampling=Sampling(strategy), train_dataset=train, processing_class=tokenizer
            )

            def run() -> None:
                for _ in trainer.get_train_dataloader():
                    pass

            return run

        passes = {"one_data_set": training_pass(one["train"], "proportional")}
        passes |= {strategy: training_pass(two["train"], strategy) for strategy in STRATEGIES}
        return compare(passes, repeats)
