"""Training of both heads with tasknet, which prints the seconds. It runs in a separate environment.

It imports nothing from this package and reads the encoder from a folder. A tested environment, with Python 3.11::

    python3 -m venv tasknet
    tasknet/bin/pip install torch==2.13.0
    tasknet/bin/pip install tasknet==1.60 transformers==5.23.0 accelerate==1.15.0 datasets==5.0.1 evaluate==0.4.6

transformers 4.57.6 works too, with huggingface-hub 0.36.2.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VALIDATION_ROWS = 8  # tasknet requires these splits; nothing is evaluated


def _read_splits(path: Path) -> dict[str, list[dict[str, Any]]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {"train": rows, "validation": rows[:VALIDATION_ROWS], "test": rows[:VALIDATION_ROWS]}


def _make_datasets(splits: dict[str, list[dict[str, Any]]]) -> tuple[Any, Any]:
    """Return the rows with intents and the rows with slots as ``DatasetDict``."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value

    train = splits["train"]
    intent = ClassLabel(names=sorted({row["intent"] for row in train}))
    slot = ClassLabel(names=sorted({label for row in train for label in row["slots"]}))
    intents, slots = {}, {}
    for split, rows in splits.items():
        # The column must be called `labels`: otherwise tasknet finds no label set, and both heads share one.
        intents[split] = Dataset.from_dict(
            {
                "text": [" ".join(row["tokens"]) for row in rows],
                "labels": [intent.str2int(row["intent"]) for row in rows],
            },
            Features({"text": Value("string"), "labels": intent}),
        )
        slots[split] = Dataset.from_dict(
            {
                "tokens": [row["tokens"] for row in rows],
                "labels": [[slot.str2int(label) for label in row["slots"]] for row in rows],
            },
            Features({"tokens": Sequence(Value("string")), "labels": Sequence(slot)}),
        )
    return DatasetDict(intents), DatasetDict(slots)


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and return ``seconds``, ``steps``, ``loss`` and the ``versions`` of libraries."""
    import datasets
    import evaluate
    import torch
    import transformers

    evaluate.load = lambda *args, **kwargs: None  # tasknet calls it on import, and it would access the hub
    import tasknet  # type: ignore[import-not-found]

    torch.set_num_threads(arguments.threads)
    datasets.disable_progress_bars()
    intents, slots = _make_datasets(_read_splits(arguments.rows))
    tasks = [
        tasknet.Classification(dataset=intents, name="intent", s1="text", y="labels"),
        tasknet.TokenClassification(dataset=slots, name="slots", tokens="tokens", y="labels"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        hparams = {
            "model_name": arguments.encoder,
            "output_dir": folder,
            "num_train_epochs": arguments.epochs,
            "per_device_train_batch_size": arguments.batch_size,
            "learning_rate": 5e-5,
            "max_length": arguments.max_length,
            "eval_strategy": "no",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": arguments.device == "cpu",
        }
        _, trainer = tasknet.Model_Trainer(tasks, hparams)
        # The model accepts any keyword and passes it on to models that do not accept the number of labels.
        trainer.model_accepts_loss_kwargs = False
        start = time.perf_counter()
        result = trainer.train()
        seconds = time.perf_counter() - start
    versions = {module.__name__: module.__version__ for module in (torch, transformers, datasets)}
    return {"seconds": seconds, "steps": result.global_step, "loss": result.training_loss, "versions": versions}


def main() -> int:
    """Train and print the result as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="JSONL with tokens, slots and intent")
    parser.add_argument("--encoder", required=True, help="folder of the encoder")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    result = train(parser.parse_args())
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
