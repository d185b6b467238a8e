"""What is missing in a call of the trainer is named, with the line that mends it."""

import datasets
import pytest
from transformers import Trainer, TrainingArguments

from hf_multitask import MultiTaskDataCollator, MultiTaskTrainer, MultiTaskTrainingArguments, build_compute_metrics
from hf_multitask.freezing.stage_results import read_stage_results
from tests.tiny import ROWS
from tests.trainers import make_trainer


@pytest.fixture
def args(tmp_path):
    return MultiTaskTrainingArguments(output_dir=str(tmp_path), report_to="none")


def test_a_tokenizer_is_needed(model, data, args):
    message = r"processing_class is missing: .*MultiTaskTrainer\(…, processing_class=tokenizer\)"
    for rows in ({"train_dataset": data["train"]}, {"eval_dataset": {"a": data["validation"]}}):
        with pytest.raises(ValueError, match=message):
            MultiTaskTrainer(model=model, args=args, **rows)
    trainer = MultiTaskTrainer(model=model, args=args)
    with pytest.raises(ValueError, match=message):
        trainer.evaluate(data["validation"])


def test_a_data_collator_takes_its_place(model, data, args, tokenizer):
    collator = MultiTaskDataCollator(tokenizer, data.tasks)
    trainer = MultiTaskTrainer(model=model, args=args, data_collator=collator)
    assert trainer.evaluate(data["validation"])["eval_loss"] > 0


def test_plain_training_arguments_are_refused(model, data, tokenizer, tmp_path):
    with pytest.raises(TypeError, match="from hf_multitask import MultiTaskTrainingArguments"):
        MultiTaskTrainer(model=model, args=TrainingArguments(str(tmp_path)), train_dataset=data["train"])


@pytest.mark.parametrize("kind", [datasets.Dataset.from_list, list])
def test_rows_that_are_not_prepared_are_refused(kind, model, data, args, tokenizer):
    message = (
        r"train_dataset: expected rows of prepare_datasets, found the columns tokens, intent, slots.*data\[\"train"
    )
    with pytest.raises(ValueError, match=message):
        MultiTaskTrainer(model=model, args=args, train_dataset=kind(ROWS), processing_class=tokenizer)
    trainer = MultiTaskTrainer(model=model, args=args, processing_class=tokenizer)
    with pytest.raises(ValueError, match="expected rows of prepare_datasets"):
        trainer.evaluate(kind(ROWS))


def test_the_metrics_need_a_trainer_of_several_tasks(model, data, tokenizer, tmp_path):
    trainer = Trainer(
        model=model,
        args=TrainingArguments(str(tmp_path), report_to="none", label_names=["labels"]),
        data_collator=MultiTaskDataCollator(tokenizer, data.tasks),
        compute_metrics=build_compute_metrics(data.tasks),
    )
    with pytest.raises(TypeError, match=r"compute_metrics: .*by MultiTaskTrainer\(…\)"):
        trainer.evaluate(data["validation"])


def test_a_run_shorter_than_a_log_has_its_losses(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, "heads-then-all", max_steps=14, logging_steps=500)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    stages = read_stage_results(tmp_path)
    assert [log["step"] for log in logs] == [stages[0]["steps"], 14]
    for log, stage in zip(logs, stages, strict=True):
        assert stage["train_losses"]["loss"] == pytest.approx(log["loss"])
        assert log["intent_loss"] > 0
