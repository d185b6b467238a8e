"""No setting of the training drops rows from an evaluation or changes its metrics."""

import pytest

from tests.trainers import make_trainer

OTHERS = ("epoch", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def evaluate(model, data, tokenizer, folder, **settings):
    trainer = make_trainer(model, data, tokenizer, folder, **{"per_device_eval_batch_size": 4, **settings})
    metrics = trainer.evaluate()
    return {name: value for name, value in metrics.items() if not name.endswith(OTHERS)}


@pytest.mark.parametrize(
    "settings",
    [
        {"dataloader_drop_last": True},
        {"dataloader_drop_last": True, "train_sampling_strategy": "random"},
        {"eval_accumulation_steps": 1},
        {"eval_use_gather_object": True},
        {"include_for_metrics": ["inputs", "loss"]},
        {"accelerator_config": {"split_batches": True}},
        {"accelerator_config": {"even_batches": False}},
        {"label_names": ["labels"]},
        {"remove_unused_columns": True},
    ],
    ids=str,
)
def test_metrics_do_not_depend_on_other_settings(settings, model, data, tokenizer, tmp_path):
    expected = evaluate(model, data, tokenizer, tmp_path)
    # Batches of other rows have sums in another order.
    assert evaluate(model, data, tokenizer, tmp_path, **settings) == pytest.approx(expected, rel=1e-6)
    assert {"eval_intent_accuracy", "eval_slots_f1", "eval_loss"} <= expected.keys()


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_only_the_loss_is_the_same_loss(batch_size, model, data, tokenizer, tmp_path):
    expected = evaluate(model, data, tokenizer, tmp_path)["eval_loss"]
    settings = {"prediction_loss_only": True, "per_device_eval_batch_size": batch_size}
    assert evaluate(model, data, tokenizer, tmp_path, **settings) == {"eval_loss": pytest.approx(expected, rel=1e-6)}
    same_batches = evaluate(model, data, tokenizer, tmp_path, prediction_loss_only=True)
    assert same_batches == {"eval_loss": expected}


def test_predictions_have_all_rows_in_order(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, dataloader_drop_last=True, per_device_eval_batch_size=4)
    assert len(trainer.predict(data["test"]).predictions["intent"]["ids"]) == len(data["test"]) == 12
    # Batches of the training are dropped as asked for.
    assert len(trainer.get_train_dataloader()) == 22 // 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_do_concat_batches": False}, "eval_do_concat_batches=False is not supported"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics is not supported"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused_at_once(settings, message, model, data, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(model, data, tokenizer, tmp_path, **settings)
