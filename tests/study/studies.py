"""The study that several tests run or read, and the config of their races."""

import json

from tests.tiny import ROWS, save_tiny_run

SCENARIOS = ["encoder-frozen", "intent-head-frozen-risky", "top:1", "slots-alone"]


def arguments(config, folder, *options):
    """Return the command of the study. Options replace the defaults."""
    defaults = {"--scenarios": ",".join(SCENARIOS), "--seeds": "2", "--sizes": "8,all", "--output": str(folder)}
    defaults |= dict(zip(options[::2], options[1::2], strict=True))
    return ["study", str(config), *(word for option in defaults.items() for word in option)]


def save_race_config(folder, **settings):
    """Write a config with many rows of train and test, and given training settings, and return its path."""
    training = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "seed": 3,
        "eval_strategy": "no",
        "load_best_model_at_end": False,
    }
    path = save_tiny_run(folder, training | settings, folder / "out")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:16] * 4))
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS * 4))
    return path
