"""The trainer: losses, metrics, order of rows, schedule, resume."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments, prepare_datasets
from hf_multitask.freezing import build_schedule
from tests import trainers
from tests.tiny import ROWS
from tests.trainers import without_dropout

SOME_MISSING = [
    {**row, **({"intent": None} if i % 3 == 0 else {}), **({"slots": None} if i % 4 == 1 else {})}
    for i, row in enumerate(ROWS)
]


def make_trainer(
    model, data, tokenizer, folder, callbacks=None, trainer=MultiTaskTrainer, freeze_schedule=None, **rest
):
    """Build a trainer of three steps."""
    given = {"callbacks": callbacks}
    return trainers.make_trainer(
        model, data, tokenizer, folder, freeze_schedule, given, trainer, **{"max_steps": 3, **rest}
    )


class KeepGradients(TrainerCallback):
    """Keeps the gradients of the first step."""

    def __init__(self):
        self.gradients = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.gradients is None:
            self.gradients = [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("rows", "balance"),
    [
        (ROWS, {}),
        (SOME_MISSING, {}),
        (SOME_MISSING, {"intent": {"RateBook": 5.0}, "slots": {"O": 0.1, "place": 4.0}}),
    ],
    ids=["all labelled", "some missing", "weighted and smoothed"],
)
def test_accumulation_changes_neither_losses_nor_gradients(rows, balance, encoder, tasks, tokenizer, tmp_path):
    tasks = [
        dataclasses.replace(task, class_weights=balance.get(task.name), label_smoothing=0.1 if balance else 0.0)
        for task in tasks
    ]
    data = prepare_datasets({"train": rows, "validation": rows}, tokenizer, tasks)
    model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    runs = []
    for batch_size, accumulation in ((16, 1), (4, 4), (2, 8)):
        keep = KeepGradients()
        trainer = make_trainer(
            copy.deepcopy(model),
            data,
            tokenizer,
            tmp_path,
            [keep],
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            logging_steps=1,
            max_grad_norm=0,
            max_steps=2,
        )
        trainer.train()
        runs.append((trainer.state.log_history, keep.gradients))
    (history, gradients), *others = runs
    for other_history, other_gradients in others:
        for step in range(2):
            for name in ("loss", "intent_loss", "slots_loss"):
                assert other_history[step][name] == pytest.approx(history[step][name], rel=1e-5)
        for expected, found in zip(gradients, other_gradients, strict=True):
            assert torch.allclose(found, expected, atol=1e-5)


def test_stock_normalization_would_fail_the_accumulation_check(encoder, tasks, tokenizer, tmp_path):
    class Stock(MultiTaskTrainer):
        def get_batch_samples(self, *args):
            return super(MultiTaskTrainer, self).get_batch_samples(*args)

    data = prepare_datasets({"train": SOME_MISSING, "validation": ROWS}, tokenizer, tasks)
    model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    losses = []
    for batch_size, accumulation in ((16, 1), (4, 4)):
        arguments = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation}
        trainer = make_trainer(
            copy.deepcopy(model), data, tokenizer, tmp_path, trainer=Stock, max_steps=1, logging_steps=1, **arguments
        )
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_task_losses_are_logged_and_sum_to_the_loss(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, logging_steps=2, max_steps=4)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert [log["step"] for log in logs] == [2, 4]
    for log in logs:
        assert log["intent_loss"] + log["slots_loss"] == pytest.approx(log["loss"], rel=1e-5)


def test_evaluation_gives_the_same_scores_for_every_batch_size(model, data, tokenizer, tmp_path):
    scores = []
    for batch_size in (1, 3, 64):
        trainer = make_trainer(model, data, tokenizer, tmp_path, per_device_eval_batch_size=batch_size)
        metrics = trainer.evaluate(data["train"])
        scores.append({name: metrics[f"eval_{name}"] for name in ("loss", "intent_loss", "slots_loss", "slots_f1")})
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], rel=1e-5)


def test_the_evaluated_loss_is_the_mean_over_all_items(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, per_device_eval_batch_size=5)
    batch = trainer.data_collator([data["train"][i] for i in range(len(data["train"]))])
    with torch.no_grad():
        expected = model.eval()(**batch).losses
    metrics = trainer.evaluate(data["train"])
    assert metrics["eval_intent_loss"] == pytest.approx(expected["intent"].item(), rel=1e-5)
    assert metrics["eval_slots_loss"] == pytest.approx(expected["slots"].item(), rel=1e-5)


def test_predictions_are_in_the_order_of_the_rows_with_one_per_word(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, per_device_eval_batch_size=4)
    output = trainer.predict(data["train"])
    gold = [row["labels"] for row in data["train"]]
    assert output.label_ids["intent"].tolist() == [labels["intent"] for labels in gold]
    for row, labels in zip(output.label_ids["slots"], gold, strict=True):
        assert row[row != -100].tolist() == labels["slots"]
    assert output.predictions["slots"]["ids"].shape == output.label_ids["slots"].shape
    alone = trainer.predict(data["train"].select([3]))
    words = len(gold[3]["slots"])
    assert np.array_equal(alone.predictions["slots"]["ids"][0], output.predictions["slots"]["ids"][3][:words])
    assert alone.predictions["intent"]["ids"][0] == output.predictions["intent"]["ids"][3]


def test_words_beyond_the_maximum_length_are_predicted_as_outside_and_scored(encoder, tasks, tokenizer, tmp_path):
    rows = [{"tokens": ["paris"] * 40, "intent": "PlayMusic", "slots": ["B-place"] * 40}, *ROWS]
    data = prepare_datasets({"train": rows, "validation": rows}, tokenizer, tasks, max_length=12, truncate=True)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    trainer = make_trainer(model, data, tokenizer, tmp_path)
    output = trainer.predict(data["validation"])
    assert (output.label_ids["slots"][0] != -100).sum() == 40
    assert (output.predictions["slots"]["ids"][0][10:] == data.tasks[1].label2id["O"]).all()


def test_a_task_without_any_label_has_no_scores(encoder, tasks, tokenizer, tmp_path):
    rows = [{**row, "slots": None} for row in ROWS]
    data = prepare_datasets({"train": ROWS, "validation": rows}, tokenizer, tasks)
    trainer = make_trainer(MultiTaskModel.from_encoder(encoder, data.tasks), data, tokenizer, tmp_path)
    metrics = trainer.evaluate()
    assert "eval_intent_accuracy" in metrics
    assert not any("slots" in name for name in metrics)
    assert "eval_joint_accuracy" not in metrics


def test_encoder_and_heads_have_their_own_rates_and_biases_and_norms_no_decay(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, learning_rate=1e-4, weight_decay=0.1)
    optimizer = trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == pytest.approx(1e-3 if name.startswith("heads.") else 1e-4)
            no_decay = name.endswith("bias") or "LayerNorm" in name
            assert group["weight_decay"] == (0.0 if no_decay else 0.1)


def test_the_heads_rate_can_be_set(tmp_path):
    args = MultiTaskTrainingArguments(output_dir=str(tmp_path), learning_rate=1e-4, head_learning_rate=5e-4)
    assert args.peak_head_learning_rate == 5e-4
    args.head_learning_rate, args.learning_rate = None, 2e-4
    assert args.peak_head_learning_rate == pytest.approx(2e-3)


def test_the_optimizer_has_rates_that_fall_from_layer_to_layer(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, learning_rate=1e-4, layer_lr_decay=0.5)
    rates = {group["layer_group"]: group["lr"] for group in trainer.create_optimizer().param_groups}
    layers = [name for name in rates if not name.startswith("head.")]
    assert [rates[name] for name in reversed(layers)] == pytest.approx([1e-4 * 0.5**i for i in range(len(layers))])
    assert trainer.plan()[0].learning_rates == pytest.approx(rates)


def test_training_stops_early_without_a_better_score(model, data, tokenizer, tmp_path):
    """With a learning rate of 0 no evaluation is better than the first."""
    arguments = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainer = make_trainer(
        model,
        data,
        tokenizer,
        tmp_path,
        max_steps=36,
        learning_rate=0.0,
        head_learning_rate=0.0,
        early_stopping_patience=2,
        **arguments,
    )
    for _ in range(2):  # another training counts anew
        trainer.train()
        assert trainer.state.epoch == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_lr_decay": 1.5}, r"layer_lr_decay must be a number in \(0, 1\], found 1.5"),
        ({"early_stopping_patience": 0}, "early_stopping_patience must be a whole number from 1, found 0"),
        ({"early_stopping_patience": 2}, "early_stopping_patience needs load_best_model_at_end=True"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        MultiTaskTrainingArguments(output_dir=str(tmp_path), **arguments)


@pytest.mark.parametrize("argument", [{"label_smoothing_factor": 0.1}, {"batch_eval_metrics": True}])
def test_arguments_that_have_no_meaning_here_are_refused(argument, tmp_path):
    with pytest.raises(ValueError, match=f"{next(iter(argument))} is not supported"):
        MultiTaskTrainingArguments(output_dir=str(tmp_path), **argument)


def test_an_optimizer_that_makes_its_own_groups_is_refused(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path)
    trainer.optimizer_cls_and_kwargs = (torch.optim.SGD, {"params": [], "lr": 0.1})
    with pytest.raises(ValueError, match="makes its own parameter groups"):
        trainer.create_optimizer()


@pytest.mark.parametrize("stop", [2, 6, 8, 13])
def test_a_resumed_run_is_the_same_run(stop, model, data, tokenizer, tmp_path):
    class StopAt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = control.should_training_stop = state.global_step == stop

    arguments = {
        "max_steps": -1,
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 1000,
        "logging_steps": 5,
    }
    whole = make_trainer(copy.deepcopy(model), data, tokenizer, tmp_path / "whole", **arguments)
    whole.train()
    killed = make_trainer(copy.deepcopy(model), data, tokenizer, tmp_path / "killed", [StopAt()], **arguments)
    killed.train()
    assert killed.state.global_step == stop
    resumed = make_trainer(copy.deepcopy(model), data, tokenizer, tmp_path / "killed", **arguments)
    resumed.train(resume_from_checkpoint=True)
    logs = [log for log in resumed.state.log_history if "loss" in log and log["step"] > stop]
    assert all(log["intent_loss"] + log["slots_loss"] == pytest.approx(log["loss"], rel=1e-4) for log in logs)
    assert resumed.state.global_step == whole.state.global_step == 18
    for expected, found in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_mixed_precision_trains(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, logging_steps=1, bf16=True, use_cpu=True)
    trainer.train()
    assert all(np.isfinite(log["loss"]) for log in trainer.state.log_history if "loss" in log)
    assert next(model.parameters()).dtype == torch.float32


def test_activation_checkpointing_trains_with_a_frozen_encoder_too(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, activation_checkpointing=True)
    trainer.train()
    assert trainer.state.global_step == 3


def test_the_loss_falls(model, data, tokenizer, tmp_path):
    trainer = make_trainer(
        model,
        data,
        tokenizer,
        tmp_path,
        max_steps=60,
        learning_rate=1e-2,
        logging_steps=10,
        lr_scheduler_type="constant",
    )
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[-1] < 0.5 * losses[0]


class KeepSchedules(TrainerCallback):
    """Keeps the schedules that the trainer and its run name at each step."""

    def __init__(self):
        self.trainer = None
        self.schedules = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.schedules.append((self.trainer.freeze_schedule, self.trainer.freeze_callback.run.schedule))


@pytest.mark.parametrize(
    "length",
    [{"max_steps": 9}, {"max_steps": -1, "num_train_epochs": 1.4}, {"max_steps": -1, "num_train_epochs": 3}],
    ids=str,
)
@pytest.mark.parametrize("preset", ["heads-then-all", "three-stage"])
def test_the_schedule_that_the_trainer_shows_is_the_one_that_its_run_follows(
    preset, length, model, data, tokenizer, tmp_path
):
    keep = KeepSchedules()
    trainer = make_trainer(model, data, tokenizer, tmp_path, [keep], freeze_schedule=preset, **length)
    keep.trainer = trainer
    shown, planned = trainer.freeze_schedule, trainer.plan()
    trainer.train()
    assert len(keep.schedules) == trainer.state.global_step
    assert all(schedule is shown for pair in keep.schedules for schedule in pair)
    assert trainer.freeze_schedule is trainer.resolve_schedule() is shown
    entered = [entry for entry in trainer.state.log_history if "freeze_stage" in entry]
    assert [(stage.name, stage.start_step) for stage in planned] == [
        (entry["freeze_stage"], entry["step"]) for entry in entered
    ]


def test_a_schedule_is_built_once_for_a_run_of_whole_epochs(model, data, tokenizer, tmp_path, monkeypatch):
    built = []

    def count(spec, groups, num_train_epochs, metric=None):
        built.append(num_train_epochs)
        return build_schedule(spec, groups, num_train_epochs, metric)

    monkeypatch.setattr("hf_multitask.freezing.callback.build_schedule", count)
    arguments = {"freeze_schedule": "heads-then-all", "max_steps": -1, "num_train_epochs": 3}
    trainer = make_trainer(model, data, tokenizer, tmp_path, **arguments)
    trainer.plan()
    trainer.train()
    assert built == [3]
    trainer.args.max_steps = 4
    assert [stage.steps for stage in trainer.plan()] == [1, 3]
    assert built == [3, 4 / 6]


def test_without_a_schedule_there_is_none_to_show(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path)
    assert trainer.freeze_schedule is None
    assert [stage.name for stage in trainer.resolve_schedule().stages] == ["all"]


def test_without_training_rows_presets_take_shares_of_the_epochs_asked_for(model, tokenizer, tmp_path):
    args = MultiTaskTrainingArguments(output_dir=str(tmp_path), num_train_epochs=6, report_to="none")
    trainer = MultiTaskTrainer(model, args, "heads-then-all", processing_class=tokenizer)
    assert [stage.epochs for stage in trainer.freeze_schedule.stages] == [2, None]


def test_checkpoints_have_no_code_and_the_model_has(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, save_strategy="steps", save_steps=1)
    trainer.train()
    checkpoint = tmp_path / "checkpoint-1"
    assert not list(checkpoint.glob("*.py"))
    assert "auto_map" not in json.loads((checkpoint / "config.json").read_text())
    loaded = MultiTaskModel.from_pretrained(checkpoint)
    assert loaded.config.tasks == model.config.tasks
    trainer.save_model()
    assert (tmp_path / "modeling_multitask.py").is_file()
    assert (tmp_path / "pipeline_multitask.py").is_file()
    assert "AutoModel" in json.loads((tmp_path / "config.json").read_text())["auto_map"]
    # Also after the model has been saved with its code before.
    trainer.args.max_steps = 5
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert not list((tmp_path / "checkpoint-5").glob("*.py"))
    assert "auto_map" not in json.loads((tmp_path / "checkpoint-5" / "config.json").read_text())
