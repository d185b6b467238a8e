"""The moving average of weights: its values, evaluation and saving, freezing, resume."""

import shutil

import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments, prepare_datasets
from hf_multitask.training.ema import PLAIN_WEIGHTS_NAME
from tests.freezing.resume_program import make_trainer, prepare
from tests.tiny import ROWS

DECAY = 0.7
RESTORING = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 4, "restore_best": True, "head_learning_rate": 3.0},
        {"name": "everything", "steps": 4, "restore_best": True, "learning_rate": 0.5},
        {"name": "frozen again", "train": ["heads", "encoder[-1:]"]},
    ]
}
AGAIN = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 3},
        {"name": "everything", "steps": 3},
        {"name": "encoder", "train": "encoder", "steps": 3},
        {"name": "heads again", "train": "heads"},
    ]
}


class Recorder(TrainerCallback):
    """Keeps the weights before and after each step, the trained weights, and the weights in each evaluation."""

    def __init__(self):
        self.before, self.steps, self.trained, self.evaluated = [], [], [], {}

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.before.append(copy_of(model))
        self.trained.append({name for name, weight in model.named_parameters() if weight.requires_grad})

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.steps.append(copy_of(model))

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        self.evaluated[state.global_step] = copy_of(model)


def copy_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def averages_by_hand(recorder):
    """Return the expected weights after each step: averages of trained weights, and frozen weights as they are."""
    average, result = {}, []
    seen = zip(recorder.before, recorder.steps, recorder.trained, strict=True)
    for step, (before, after, trained) in enumerate(seen, start=1):
        average = {name: average.get(name, before[name]) for name in trained}
        kept = min(DECAY, (step - 1) / (step + 2))
        average = {name: kept * value + (1 - kept) * after[name] for name, value in average.items()}
        result.append({**after, **average})
    return result


def distance(found, expected):
    assert found.keys() == expected.keys()
    return max((found[name] - expected[name]).abs().max().item() for name in found)


def same(found, expected):
    return all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def prepared(encoder):
    return prepare(encoder)


@pytest.fixture
def train(encoder, prepared, tmp_path):
    """Return a function that trains twelve steps and returns the trainer and the recorder."""

    def train(schedule=None, folder="run", resume=None, ema_decay=DECAY, **arguments):
        spec = {
            "encoder": str(encoder),
            "output_dir": str(tmp_path / folder),
            "schedule": schedule or "none",
            "arguments": {
                "max_steps": 12,
                "eval_strategy": "steps",
                "eval_steps": 2,
                "ema_decay": ema_decay,
                "metric_for_best_model": "slots_loss",
                "greater_is_better": False,
                **arguments,
            },
        }
        trainer, recorder = make_trainer(spec, prepared), Recorder()
        trainer.add_callback(recorder)
        if resume is not None:
            shutil.copytree(tmp_path / "run", tmp_path / folder, dirs_exist_ok=True)
            resume = str(tmp_path / folder / f"checkpoint-{resume}")
        trainer.train(resume_from_checkpoint=resume)
        return trainer, recorder

    return train


def test_the_average_equals_one_by_hand_and_the_model_ends_with_it(train, tmp_path):
    trainer, recorder = train()
    by_hand = averages_by_hand(recorder)
    assert len(by_hand) == 12
    assert distance(copy_of(trainer.model), by_hand[-1]) < 1e-6
    assert distance(copy_of(trainer.model), recorder.steps[-1]) > 1e-4
    for step, seen in recorder.evaluated.items():
        assert distance(seen, by_hand[step - 1]) < 1e-6
        saved = MultiTaskModel.from_pretrained(tmp_path / "run" / f"checkpoint-{step}")
        assert same(copy_of(saved), seen)
    trainer.save_model(tmp_path / "saved")
    assert same(copy_of(MultiTaskModel.from_pretrained(tmp_path / "saved")), copy_of(trainer.model))


def test_a_run_that_is_short_for_its_decay_averages_its_last_steps(train):
    trainer, recorder = train(ema_decay=0.999)
    steps = torch.arange(1, 13, dtype=torch.float64)
    shares = steps * (steps + 1)  # of polynomial-decay averaging, without their sum
    shares /= shares.sum()
    for name, average in copy_of(trainer.model).items():
        expected = sum(share * weights[name].double() for share, weights in zip(shares, recorder.steps, strict=True))
        assert torch.allclose(average.double(), expected, atol=1e-6)


def test_training_continues_with_the_weights_themselves(train):
    _, averaged = train()
    _, plain = train(folder="plain", ema_decay=None)
    for found, expected in zip(averaged.steps, plain.steps, strict=True):
        assert same(found, expected)


def test_an_evaluation_scores_the_average(train):
    trainer, recorder = train(eval_steps=6, save_steps=6)
    logged = [log["eval_slots_loss"] for log in trainer.state.log_history if "eval_slots_loss" in log]
    scores = []
    for weights in (recorder.evaluated[6], recorder.steps[5]):
        trainer.model.load_state_dict(weights)
        scores.append(trainer.evaluate()["eval_slots_loss"])
    assert logged[0] == pytest.approx(scores[0], abs=1e-6)
    assert logged[0] != pytest.approx(scores[1], abs=1e-4)


def test_predictions_and_saved_models_in_the_middle_are_of_the_average(train, tmp_path):
    trainer, _ = train(max_steps=2)
    average = trainer.callbacks.ema
    average.averages = {name: torch.zeros_like(weight) for name, weight in trainer.model.named_parameters()}
    kept = copy_of(trainer.model)
    found = trainer.predict(trainer.eval_dataset).predictions["intent"]["loss"]
    assert found == pytest.approx([found[0]] * len(found))  # all labels are equally probable
    trainer.save_model(tmp_path / "middle")
    assert not any(weight.any() for weight in MultiTaskModel.from_pretrained(tmp_path / "middle").parameters())
    assert same(copy_of(trainer.model), kept)


def test_the_best_checkpoint_comes_back_as_it_was_evaluated(train):
    trainer, recorder = train(load_best_model_at_end=True, learning_rate=0.3)
    best = trainer.state.best_global_step
    assert best < 12
    assert same(copy_of(trainer.model), recorder.evaluated[best])


@pytest.mark.parametrize("schedule", [None, AGAIN, RESTORING], ids=["none", "again", "restoring"])
@pytest.mark.parametrize("step", [4, 6, 8])
def test_a_resumed_run_ends_with_the_same_bits(schedule, step, train):
    whole, recorder = train(schedule)
    resumed, again = train(schedule, "resumed", resume=step)
    assert same(copy_of(resumed.model), copy_of(whole.model))
    assert len(again.steps) == 12 - step
    for found, expected in zip(again.steps, recorder.steps[step:], strict=True):
        assert same(found, expected)
    assert {k: v for k, v in recorder.evaluated.items() if k > step}.keys() == again.evaluated.keys()
    assert all(same(seen, recorder.evaluated[at]) for at, seen in again.evaluated.items())


def test_frozen_weights_have_no_average_and_unfrozen_ones_start_from_themselves(train):
    trainer, recorder = train(AGAIN)
    by_hand = averages_by_hand(recorder)
    for step, seen in recorder.evaluated.items():
        assert distance(seen, by_hand[step - 1]) < 1e-6
        frozen = seen.keys() - recorder.trained[step - 1]
        assert all(torch.equal(seen[name], recorder.steps[step - 1][name]) for name in frozen)
        assert bool(frozen) == (step not in (4, 6))
    assert distance(copy_of(trainer.model), by_hand[-1]) < 1e-6


@pytest.mark.parametrize("rate", [3.0, 1e-4], ids=["an earlier step", "the last step"])
def test_restored_weights_are_the_evaluated_ones_and_start_a_new_average(rate, train):
    schedule = {
        "stages": [
            {"name": "heads", "train": "heads", "steps": 6, "restore_best": True, "head_learning_rate": rate},
            {"name": "top", "train": ["head.intent", "encoder[-1:]"]},
        ]
    }
    trainer, recorder = train(schedule, max_steps=8, warmup_steps=0)
    (entered,) = (log for log in trainer.state.log_history if log.get("freeze_stage") == "top")
    best = entered.get("restored_step", 6)
    assert (best < 6) == (rate > 1)
    assert same(recorder.before[6], recorder.evaluated[best])
    assert not same(recorder.before[6], recorder.steps[best - 1])
    for name in recorder.trained[6]:
        expected = 6 / 9 * recorder.before[6][name] + 3 / 9 * recorder.steps[6][name]
        expected = DECAY * expected + (1 - DECAY) * recorder.steps[7][name]
        assert torch.allclose(recorder.evaluated[8][name], expected, atol=1e-6)


def test_checkpoints_with_and_without_an_average_are_distinguished(train, tmp_path):
    train(max_steps=4)
    assert (tmp_path / "run" / "checkpoint-2" / PLAIN_WEIGHTS_NAME).is_file()
    with pytest.raises(ValueError, match="its model is an average of weights; resume with the ema_decay of its run"):
        train(folder="without", resume=2, ema_decay=None)
    shutil.rmtree(tmp_path / "run")
    train(max_steps=4, ema_decay=None)
    with pytest.raises(ValueError, match=rf"{PLAIN_WEIGHTS_NAME} is missing; resume without ema_decay"):
        train(folder="with", resume=2)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, 1, "0.9"])
def test_a_decay_that_averages_nothing_is_refused(decay, tmp_path):
    with pytest.raises(ValueError, match=r"ema_decay must be a number in \(0, 1\), found"):
        MultiTaskTrainingArguments(output_dir=str(tmp_path), ema_decay=decay)


def test_weights_whose_average_would_not_move_are_refused(encoder, tokenizer, tasks, tmp_path):
    data = prepare_datasets({"train": ROWS}, tokenizer, tasks)
    model = MultiTaskModel.from_encoder(encoder, data.tasks, dtype=torch.bfloat16)
    arguments = MultiTaskTrainingArguments(output_dir=str(tmp_path), ema_decay=0.9, use_cpu=True)
    with pytest.raises(ValueError, match=r"ema_decay: expected weights in float32, found .* in bfloat16"):
        MultiTaskTrainer(model, arguments, processing_class=tokenizer)
