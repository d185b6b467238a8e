"""Training arguments: ranges, and what the trainer takes."""

import pytest
from transformers import TrainingArguments

from hf_multitask import MultiTaskTrainer, MultiTaskTrainingArguments
from tests.trainers import make_trainer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gradient_accumulation_steps", 0),
        ("per_device_train_batch_size", 0),
        ("per_device_eval_batch_size", -1),
        ("learning_rate", -1e-5),
        ("head_learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("weight_decay", -0.1),
        ("max_steps", -2),
        ("num_train_epochs", 0),
        ("dataloader_num_workers", -1),
        ("seed", -1),
        ("seed", 2**32),
        ("adam_beta1", 1.0),
        ("save_total_limit", -1),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(name, value, tmp_path):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        MultiTaskTrainingArguments(str(tmp_path), **{name: value})


def test_plain_training_arguments_are_refused_with_the_ones_to_take(model, tmp_path):
    with pytest.raises(TypeError, match="expected MultiTaskTrainingArguments, found TrainingArguments"):
        MultiTaskTrainer(model, TrainingArguments(str(tmp_path)))


def test_without_arguments_there_are_those_of_the_trainer(model):
    trainer = MultiTaskTrainer(model)
    assert isinstance(trainer.args, MultiTaskTrainingArguments)
    assert trainer.args.output_dir == "tmp_trainer"


@pytest.mark.parametrize("metric", ["f1", "slots_f2", "eval_slot_f1"])
def test_a_metric_that_no_evaluation_has_is_refused_before_training(metric, model, data, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=f"unknown metric_for_best_model '{metric}'.* Allowed: .*'slots_f1'"):
        make_trainer(model, data, tokenizer, tmp_path, metric_for_best_model=metric, eval_strategy="epoch")


@pytest.mark.parametrize("metric", ["slots_f1", "eval_slots_f1", "loss", "joint_accuracy"])
def test_a_metric_of_the_tasks_is_taken(metric, model, data, tokenizer, tmp_path):
    make_trainer(model, data, tokenizer, tmp_path, metric_for_best_model=metric, eval_strategy="epoch")


def test_metrics_of_several_validation_sets_have_their_names(model, data, tokenizer, tmp_path):
    given = {"eval_dataset": {"a": data["validation"]}}
    arguments = {
        "model": model,
        "train_dataset": data["train"],
        "processing_class": tokenizer,
        **given,
    }
    for metric in ("slots_f1", "b_slots_f1"):
        with pytest.raises(ValueError, match=r"Allowed: .*'a_slots_f1'"):
            MultiTaskTrainer(
                args=MultiTaskTrainingArguments(
                    str(tmp_path), metric_for_best_model=metric, eval_strategy="epoch", report_to="none"
                ),
                **arguments,
            )


def test_the_backend_of_a_single_process_is_left_out_with_a_warning(tmp_path, caplog):
    args = MultiTaskTrainingArguments(str(tmp_path), ddp_backend="gloo", use_cpu=True)
    assert args.world_size == 1
    assert args.ddp_backend is None
    assert "ddp_backend='gloo' has no effect: this is the only process" in caplog.text
