"""Series of the campaign: configs of short training runs on a tiny random encoder."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from benchmarks.rows import generate_rows
from transformers import BertConfig, BertModel, BertTokenizer

from hf_multitask.models.type_aliases import JsonObject

ROWS = {"train": 14, "validation": 6}
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

INTENT: JsonObject = {"name": "intent", "type": "sequence_classification"}
SLOTS: JsonObject = {"name": "slots", "type": "token_classification"}
OTHER_HEADS: list[JsonObject] = [
    {**INTENT, "class_weights": "balanced", "label_smoothing": 0.1},
    {**SLOTS, "crf": True, "head": "lstm", "mix_layers": True},
    {"name": "length", "type": "sequence_classification", "problem_type": "regression"},
    {"name": "types", "type": "sequence_classification", "problem_type": "multi_label_classification"},
]
# No evaluation is better by that much, so that a stage ends after its patience.
NEVER_BETTER: JsonObject = {"metric": "loss", "patience": 2, "min_delta": 100.0, "max_epochs": 2}
UPPER = ["heads", "encoder[-1:]"]
BY_TIME: JsonObject = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 5},
        {"name": "everything", "steps": 5},
        {"name": "frozen again", "train": UPPER},
    ]
}
BY_METRIC: JsonObject = {
    "stages": [
        {"name": "heads", "train": "heads", "until": NEVER_BETTER},
        {"name": "everything", "until": NEVER_BETTER},
        {"name": "frozen again", "train": UPPER},
    ]
}
WATCHING: JsonObject = {
    "stages": [
        {
            "name": "everything",
            "steps": 8,
            "restore_best": True,
            "learning_rate": 0.05,
            "on_worse": [
                {"metric": "slots_loss", "do": "lower_lr", "patience": 2},
                {"metric": "intent_loss", "do": "refreeze", "groups": ["embeddings", "encoder.0"]},
            ],
        },
        {"name": "upper", "train": UPPER, "warmup_steps": 2, "lr_scheduler_type": "cosine", "layer_lr_decay": 0.5},
    ]
}
PROTECTED: JsonObject = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 3},
        {"name": "held", "train": ["encoder", "head.slots"], "steps": 6},
        {"name": "everything"},
    ],
    "protect": {"intent": {"distill": 0.5}},
}

STEPS: JsonObject = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4}
EACH_STEP: JsonObject = {**STEPS, "eval_steps": 1, "save_steps": 3}
STREAM: JsonObject = {"max_steps": 11, "eval_steps": 4, "save_steps": 4}
LAST_WEIGHTS: JsonObject = {"load_best_model_at_end": False, "save_total_limit": 1}
EVERY_STEP: JsonObject = {**EACH_STEP, "save_steps": 1, "logging_steps": 4}
BASE: JsonObject = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 3,
    "disable_tqdm": True,
    "use_cpu": True,
    "store_frozen": "never",
}

# What differs from the plain config, by the name of a series.
SERIES: dict[str, JsonObject] = {
    "map dataset, by epoch": {},
    "map dataset, by steps": {"training": {**STEPS, **LAST_WEIGHTS}},
    "resumed at the last step": {"training": {**EVERY_STEP, **LAST_WEIGHTS, "num_train_epochs": 1}},
    "logged by epoch": {
        "training": {"logging_strategy": "epoch", "save_strategy": "steps", "save_steps": 5, **LAST_WEIGHTS}
    },
    "stream": {"data": {"streaming": True}, "training": STREAM},
    "stream, two workers": {"data": {"streaming": True}, "training": {**STREAM, "dataloader_num_workers": 2}},
    "two streams": {
        "data": [
            {"tasks": ["intent"], "streaming": True},
            {"tasks": ["slots"], "streaming": True, "train": "more.jsonl"},
        ],
        "sampling": {"strategy": "uniform"},
        "training": {**STREAM, **LAST_WEIGHTS, "logging_steps": 4},
    },
    "stages by time": {"freeze": BY_TIME, "training": STEPS},
    "stages by a metric": {"freeze": BY_METRIC, "training": {**EACH_STEP}},
    "stages by a metric, stream": {
        "freeze": BY_METRIC,
        "data": {"streaming": True},
        "training": {**STREAM, **EACH_STEP},
    },
    "stored prefix": {"freeze": BY_TIME, "training": {**STEPS, "store_frozen": "always"}},
    "stored prefix, by a metric": {"freeze": BY_METRIC, "training": {**EACH_STEP, "store_frozen": "always"}},
    "stored prefix, always frozen": {"freeze": ["embeddings", "encoder[:1]"], "training": {"store_frozen": "always"}},
    "gradual": {"freeze": {"preset": "gradual"}, "training": {**STEPS, "num_train_epochs": 5}},
    "progressive": {
        "freeze": {"preset": "progressive", "min_delta": 100.0, "max_epochs": 1},
        "training": {**EACH_STEP, "logging_steps": 5},
    },
    "converged": {
        "freeze": {"preset": "converged", "aggressiveness": 1.5, "watch": []},
        "training": {**STEPS, "store_frozen": "always"},
    },
    "converged, backs off": {
        "freeze": {"preset": "converged", "aggressiveness": 100, "watch": "loss", "min_delta": 0.0, "patience": 1},
        "training": {**EACH_STEP, "learning_rate": 0.05},
    },
    "converged, stream": {
        "freeze": {"preset": "converged", "aggressiveness": 100, "watch": []},
        "data": {"streaming": True},
        "training": STREAM,
    },
    "best weights restored": {"freeze": WATCHING, "training": {**EACH_STEP}},
    "protected head": {"freeze": PROTECTED, "training": STEPS},
    "EMA": {"training": {**STEPS, "ema_decay": 0.9}},
    "EMA, stages": {"freeze": BY_TIME, "training": {**STEPS, **LAST_WEIGHTS, "ema_decay": 0.8}},
    "EMA, stream": {"data": {"streaming": True}, "training": {**STREAM, "ema_decay": 0.9}},
    "early stopping": {
        "training": {**STEPS, "num_train_epochs": 20, "early_stopping_patience": 2, "learning_rate": 0.05},
    },
    "several datasets": {
        "data": [{"tasks": ["intent"]}, {"tasks": ["slots"], "train": "more.jsonl"}],
        "sampling": {"strategy": "temperature", "stopping": "all_exhausted"},
        "training": STEPS,
    },
    "other heads": {"tasks": OTHER_HEADS, "training": STEPS},
    "accumulated": {"training": {**STEPS, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}},
    "accumulated, protected": {
        "freeze": PROTECTED,
        "training": {**STEPS, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    },
    "batches by tokens": {"training": {**STEPS, "max_tokens_per_batch": 60}},
    "windows": {"data": {"max_length": 12, "overlap": 3}, "training": STEPS},
    "folds": {"data": {"folds": 2, "validation": None}, "training": {"num_train_epochs": 2}},
    "contrastive warm-up": {"contrastive": {"epochs": 2, "batch_size": 8}, "training": STEPS},
    "bf16": {"training": {**STEPS, "bf16": True}},
    "Adafactor, plateau": {
        "training": {
            **STEPS,
            "optim": "adafactor",
            "lr_scheduler_type": "reduce_lr_on_plateau",
            "metric_for_best_model": "loss",
        },
    },
    "saved if best": {
        "training": {"save_strategy": "best", "metric_for_best_model": "loss", "save_total_limit": 1},
    },
}


def write_inputs(folder: Path) -> None:
    """Write the encoder and the rows of all series.

    Args:
        folder: Folder to write to.
    """
    rows = [_with_more_labels(row) for row in generate_rows(sum(ROWS.values()) + 9)]
    words = sorted({word for row in rows for token in row["tokens"] for word in [token, *token]})
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*SPECIAL_TOKENS, *words)))}
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(folder / "encoder")
    BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(folder / "encoder")
    train = rows[: ROWS["train"]]
    splits = {"train": train, "validation": rows[ROWS["train"] :][: ROWS["validation"]], "more": rows[-9:] + train[:5]}
    for name, chosen in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in chosen)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def config_of(series: str, inputs: Path, output_dir: Path, store_dir: Path) -> JsonObject:
    """Return the config of a run.

    Args:
        series: Name of the series.
        inputs: Folder that `write_inputs` has written.
        output_dir: Folder of the run.
        store_dir: Folder of cached states.
    """
    change = copy.deepcopy(SERIES[series])
    data = change.pop("data", {})
    training = {**BASE, **change.pop("training", {}), "store_dir": str(store_dir)}
    return {
        "encoder": str(inputs / "encoder"),
        "tasks": [INTENT, SLOTS],
        "data": [_dataset(one, inputs) for one in data] if isinstance(data, list) else _dataset(data, inputs),
        "output_dir": str(output_dir),
        "training": training,
        **change,
    }


def _dataset(change: Mapping[str, object], inputs: Path) -> JsonObject:
    """Return the config of a dataset, with the paths of its files."""
    values = {"train": "train.jsonl", "validation": "validation.jsonl", "unseen_labels": "ignore", **change}
    return {key: str(inputs / str(value)) if str(value).endswith(".jsonl") else value for key, value in values.items()}


def _with_more_labels(row: JsonObject) -> JsonObject:
    """Return a row with a number and several labels as well."""
    types = sorted({tag[2:] for tag in row["slots"] if tag != "O"})
    return {**row, "length": len(row["tokens"]) / 10, "types": types}
