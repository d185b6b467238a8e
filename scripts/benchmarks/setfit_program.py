"""Training of a classifier with SetFit, which prints its accuracy and seconds. It runs in a separate environment.

It imports nothing from this package and reads the encoder from a folder. A tested environment, with Python 3.11::

    python3 -m venv setfit
    setfit/bin/pip install torch==2.13.0
    setfit/bin/pip install setfit==1.1.3 transformers==4.57.6 sentence-transformers==5.7.0 datasets==5.0.1

SetFit 1.1.3 does not work with transformers 5.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def _read(path: Path) -> dict[str, list[str]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {"text": [row["text"] for row in rows], "label": [row["intent"] for row in rows]}


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train with SetFit's defaults and return ``accuracy``, CPU ``seconds``, ``steps`` and library ``versions``."""
    import datasets
    import sentence_transformers
    import setfit  # type: ignore[import-not-found]
    import torch
    import transformers

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    rows, test = (_read(arguments.folder / f"{split}.jsonl") for split in ("train", "test"))
    transformers.set_seed(arguments.seed)
    model = setfit.SetFitModel.from_pretrained(arguments.encoder)
    with tempfile.TemporaryDirectory() as folder:
        options = setfit.TrainingArguments(
            output_dir=folder,
            seed=arguments.seed,
            num_iterations=arguments.num_iterations,
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        trainer = setfit.Trainer(model=model, args=options, train_dataset=datasets.Dataset.from_dict(rows))
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
    predicted = model.predict(test["text"], as_numpy=True, show_progress_bar=False)
    right = sum(str(label) == expected for label, expected in zip(predicted, test["label"], strict=True))
    modules = (setfit, sentence_transformers, transformers, torch)
    return {
        "accuracy": right / len(test["label"]),
        "seconds": seconds,
        "steps": trainer.st_trainer.state.global_step,
        "versions": {module.__name__: module.__version__ for module in modules},
    }


def main() -> int:
    """Train and print the result as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--encoder", required=True, help="folder of the encoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-iterations", type=int, help="pairs of each kind per row (default: all pairs)")
    print(json.dumps(train(parser.parse_args())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
