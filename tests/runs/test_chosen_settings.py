"""Settings that a run chooses: given ones stay, chosen ones are printed, and the kept config repeats the run."""

import logging
from dataclasses import replace

import datasets
import pytest
import torch
import yaml
from safetensors.torch import load_file

from hf_multitask import MultiTaskModel, RunConfig, load_tokenizer, prepare_datasets, run_training
from hf_multitask.runs import build_trainer
from hf_multitask.runs.chosen_settings import RUN_CONFIG_NAME
from hf_multitask.training import settings
from tests.tiny import ROWS

TASKS = [{"name": "intent", "type": "sequence_classification"}, {"name": "slots", "type": "token_classification"}]


@pytest.fixture
def values(encoder, write_jsonl, tmp_path):
    files = {split: str(write_jsonl(rows)) for split, rows in (("train", ROWS), ("validation", ROWS[:9]))}
    return {"encoder": str(encoder), "tasks": TASKS, "data": files, "output_dir": str(tmp_path / "out")}


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_the_shortest_config_trains_with_chosen_settings(values):
    trainer, data = build_trainer(RunConfig.from_dict(values))
    assert trainer.args.num_train_epochs == 30
    assert trainer.args.per_device_train_batch_size == 8
    assert trainer.args.layer_lr_decay == 0.85
    assert trainer.args.metric_for_best_model == "joint_accuracy"
    assert [task.label_smoothing for task in trainer.model.config.tasks] == [0.1, 0.1]
    assert data.tasks == trainer.model.config.tasks


def test_the_kept_config_repeats_the_run_bit_for_bit(values, tmp_path, caplog):
    values["training"] = {"max_steps": 4, "eval_strategy": "no", "load_best_model_at_end": False}
    caplog.set_level(logging.INFO, "hf_multitask")
    metrics = run_training(RunConfig.from_dict(values))
    assert "Settings chosen for 22 training rows, effort standard" in caplog.text

    kept = tmp_path / "out" / RUN_CONFIG_NAME
    caplog.clear()
    again = run_training(RunConfig.from_file(kept, {"output_dir": str(tmp_path / "again")}))
    assert "Settings for 22 training rows: all given." in caplog.text
    assert again == metrics
    first, second = weights(tmp_path / "out"), weights(tmp_path / "again")
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())

    written = yaml.safe_load(kept.read_text())
    assert written["tasks"][1] == {
        "name": "slots",
        "type": "token_classification",
        "label_smoothing": 0.1,
        "head": "linear",
        "mix_layers": False,
        "constrained_by": "intent",
    }
    assert written["training"]["max_steps"] == 4
    assert "num_train_epochs" not in written["training"]
    comments = [line for line in kept.read_text().splitlines() if line.startswith("# - training.learning_rate: ")]
    assert len(comments) == 1, "each chosen setting has its reason"


def test_tasks_with_rows_of_their_own_are_seen_in_the_data(values, monkeypatch):
    monkeypatch.setattr(settings, "FEW_ROWS", 20)

    def heads(data, **changes):
        trainer, _ = build_trainer(RunConfig.from_dict({**values, "data": data, **changes}))
        return [(task.head, task.mix_layers) for task in trainer.model.config.tasks]

    both = values["data"]
    apart = [{**both, "tasks": [task["name"]]} for task in TASKS]
    assert heads(apart) == [("linear", False), ("lstm", True)]
    linear = [("linear", False)] * 2
    assert heads([both, {**both, "tasks": ["slots"]}]) == linear
    assert heads(apart, freeze="top:1") == linear, "states of frozen layers are cached for linear heads"


def test_the_effort_of_a_config_changes_the_run(values):
    quick, thorough = (RunConfig.from_dict({**values, "effort": effort}) for effort in ("quick", "thorough"))
    assert build_trainer(quick)[0].args.num_train_epochs < build_trainer(thorough)[0].args.num_train_epochs
    assert build_trainer(thorough)[0].model.config.tasks[1].head == "lstm"
    with pytest.raises(ValueError, match=r"unknown effort 'fast'. Allowed: 'quick', 'standard', 'thorough'"):
        RunConfig.from_dict({**values, "effort": "fast"})


def test_what_a_config_gives_stays(values):
    values["tasks"] = [TASKS[0], {**TASKS[1], "head": "lstm", "label_smoothing": 0.0, "mix_layers": False}]
    values["data"]["label_subwords"] = "first"
    values["training"] = {"num_train_epochs": 2, "learning_rate": 1e-4, "save_strategy": "no", "eval_strategy": "no"}
    values["training"]["load_best_model_at_end"] = False
    trainer, _ = build_trainer(RunConfig.from_dict(values))
    task = trainer.model.config.tasks[1]
    assert (task.head, task.label_smoothing, task.mix_layers) == ("lstm", 0.0, False)
    assert (trainer.args.num_train_epochs, trainer.args.learning_rate) == (2, 1e-4)
    assert trainer.args.peak_head_learning_rate == pytest.approx(1e-3), "ten times a given rate, as documented"
    assert trainer.args.save_strategy == "no"


def test_subwords_are_labeled_as_chosen(values, encoder):
    """The tiny tokenizer cuts words it does not know into pieces."""
    rows = [{"tokens": ["parisians", "play"], "intent": "a", "slots": ["B-place", "O"]}] * 8
    values["data"] = {"train": rows, "validation": rows}

    def labeled(config):
        trainer, _ = build_trainer(config)
        (batch, *_) = trainer.get_train_dataloader()
        return int((batch["labels"]["slots"] != -100).sum(1).max())

    config = RunConfig.from_dict(values)
    assert labeled(config) > labeled(replace(config, data=replace(config.data, label_subwords="first"))) == 2
    data = prepare_datasets({"train": rows}, load_tokenizer(encoder), config.tasks)
    assert data.tasks[1].label_subword == "first"


def test_rows_in_memory_cannot_be_kept(values, tmp_path, caplog):
    values["data"] = {"train": datasets.Dataset.from_list(ROWS), "validation": ROWS[:9]}
    values["training"] = {"max_steps": 1, "eval_strategy": "no", "load_best_model_at_end": False}
    caplog.set_level(logging.INFO, "hf_multitask")
    run_training(RunConfig.from_dict(values))
    assert not (tmp_path / "out" / RUN_CONFIG_NAME).exists()
    assert "run.yaml is not written: data.train" in caplog.text


def test_a_run_finds_the_entity_types_of_each_label(values, write_jsonl, tmp_path):
    rows = [
        {"tokens": ["book", name], "intent": intent, "slots": ["O", f"B-{kind}"]}
        for intent, kind, name in (("travel", "city", "paris"), ("dinner", "place", "paris")) * 10
    ]
    values["data"] = {"train": str(write_jsonl(rows)), "validation": str(write_jsonl(rows))}
    values["training"] = {"max_steps": 2}
    run_training(RunConfig.from_dict(values))
    out = tmp_path / "out"
    assert yaml.safe_load((out / RUN_CONFIG_NAME).read_text())["tasks"][1]["constrained_by"] == "intent"
    slots = MultiTaskModel.from_pretrained(out).config.tasks[1]
    assert (slots.constrained_by, slots.types_by_label) == ("intent", {"travel": ["city"], "dinner": ["place"]})
    assert slots.unseen_types_share == 1 / 20

    # Trained further on rows with another pair: what the first rows had can still occur.
    more = [{"tokens": ["book", "rome"], "intent": "dinner", "slots": ["O", "B-city"]}] * 4
    values |= {"encoder": str(out), "output_dir": str(tmp_path / "more"), "data": {"train": str(write_jsonl(more))}}
    run_training(RunConfig.from_dict(values))
    slots = MultiTaskModel.from_pretrained(tmp_path / "more").config.tasks[1]
    assert slots.types_by_label == {"travel": ["city"], "dinner": ["city", "place"]}
    assert slots.unseen_types_share == 1 / 4
