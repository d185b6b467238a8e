"""The contrastive warm-up of the encoder: its loss and batches, what it changes, resume, refusals, a whole run."""

import json
import math

import numpy as np
import pytest
import torch
import yaml
from transformers import TrainerCallback

from hf_multitask import (
    MultiTaskDataCollator,
    MultiTaskModel,
    RunConfig,
    TaskConfig,
    prepare_datasets,
    run_training,
)
from hf_multitask.runs.build import build_trainer
from hf_multitask.training.contrastive import (
    LOSS,
    ROWS_PER_LABEL,
    ContrastiveCallback,
    ContrastiveConfig,
    draw_batches,
    supervised_contrastive_loss,
    text_vectors,
)
from tests.tiny import ROWS
from tests.trainers import make_trainer

FAST = ContrastiveConfig(epochs=6, batch_size=32, learning_rate=3e-3)


class Recorder(TrainerCallback):
    """Keeps the weights and the random state when the training begins, and the weights after each step."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.begin, self.random, self.steps = copy_of(model), torch.get_rng_state(), []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.steps.append(copy_of(model))


def copy_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(found, expected):
    return all(torch.equal(found[name], expected[name]) for name in expected)


def changed_groups(model, before):
    now = dict(model.named_parameters())
    return [
        group.name
        for group in model.layer_groups()
        if any(not torch.equal(now[name], before[name]) for name in group.parameters)
    ]


def margin(model, rows, collator):
    """Return how much more similar texts of the same intent are than others."""
    batch = collator([rows[i] for i in range(len(rows))])
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(text_vectors(model.eval(), batch), dim=1)
    similarities, labels = vectors @ vectors.T, batch["labels"]["intent"]
    same_label = labels.unsqueeze(0) == labels.unsqueeze(1)
    others = ~torch.eye(len(labels), dtype=torch.bool)
    return (similarities[same_label & others].mean() - similarities[~same_label].mean()).item()


@pytest.fixture
def collator(tokenizer, data):
    return MultiTaskDataCollator(tokenizer, data.tasks)


@pytest.fixture
def train(encoder, data, tokenizer, collator, tmp_path):
    """Return a function that trains and returns the trainer and the recorder."""

    def train(config=FAST, folder="run", resume=None, schedule=None, frozen=(), **arguments):
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoder, data.tasks)
        for group in model.layer_groups():
            for weight in group.parameters.values():
                weight.requires_grad_(group.name not in frozen)
        recorder = Recorder()
        recorder.before = copy_of(model)
        warm_up = [] if config is None else [ContrastiveCallback(data["train"], collator, config)]
        trainer = make_trainer(
            model,
            data,
            tokenizer,
            tmp_path / folder,
            schedule,
            {"callbacks": [*warm_up, recorder]},
            **{"max_steps": 4, "use_cpu": True, **arguments},
        )
        trainer.train(resume_from_checkpoint=resume and str(tmp_path / resume))
        return trainer, recorder

    return train


def test_the_loss_equals_one_by_hand():
    torch.manual_seed(1)
    vectors, labels, temperature = torch.randn(5, 3), [0, 1, 0, 0, 2], 0.5
    total, anchors = 0.0, 0
    for i in range(5):
        others = [j for j in range(5) if j != i]
        similarity = {j: torch.cosine_similarity(vectors[i], vectors[j], dim=0).item() / temperature for j in others}
        positives = [j for j in others if labels[j] == labels[i]]
        if positives:
            log_sum = math.log(sum(math.exp(similarity[j]) for j in others))
            total -= sum(similarity[j] - log_sum for j in positives) / len(positives)
            anchors += 1
    assert anchors == 3
    found = supervised_contrastive_loss(vectors, torch.tensor(labels), temperature)
    assert found.item() == pytest.approx(total / anchors, rel=1e-5)


def test_batches_have_rows_of_the_same_label():
    labels = {row: row % 20 for row in range(0, 320, 2)}
    batches = draw_batches(labels, 8, np.random.default_rng(0))
    assert sorted(row for batch in batches for row in batch) == sorted(labels)
    for batch in batches:
        assert len(batch) == 8
        assert all([labels[row] for row in batch].count(labels[one]) >= ROWS_PER_LABEL for one in batch)
    assert batches == draw_batches(labels, 8, np.random.default_rng(0))
    assert batches != draw_batches(labels, 8, np.random.default_rng(1))


def test_no_batch_divides_a_group():
    labels = {0: 5, 1: 6, 2: 6}
    for seed in range(10):
        (batch,) = draw_batches(labels, 2, np.random.default_rng(seed))
        assert sorted(batch) == [1, 2]


def test_a_batch_without_two_rows_of_a_label_is_left_out():
    assert draw_batches({0: 5, 1: 6, 2: 7}, 2, np.random.default_rng(0)) == []


def test_texts_of_the_same_label_move_together(train, data, collator, encoder):
    torch.manual_seed(0)
    before = margin(MultiTaskModel.from_encoder(encoder, data.tasks), data["train"], collator)
    trainer, recorder = train(ContrastiveConfig(epochs=20, batch_size=32, learning_rate=3e-3))
    trainer.model.load_state_dict(recorder.begin, strict=False)
    assert margin(trainer.model, data["train"], collator) > before + 0.2


def test_only_the_encoder_changes_and_what_is_frozen_does_not(train):
    for config, frozen, kept in (
        (FAST, (), []),
        (FAST, ("embeddings", "encoder.1"), ["embeddings", "encoder.1"]),
        (
            ContrastiveConfig(epochs=1, freeze=["embeddings", "encoder[:2]"]),
            (),
            ["embeddings", "encoder.0", "encoder.1"],
        ),
    ):
        trainer, recorder = train(config, frozen=frozen)
        trainer.model.load_state_dict(recorder.begin, strict=False)
        encoder = [group.name for group in trainer.model.layer_groups() if not group.is_head]
        assert changed_groups(trainer.model, recorder.before) == [name for name in encoder if name not in kept]
        assert all(weight.grad is None for weight in trainer.model.parameters() if not weight.requires_grad)


def test_the_training_draws_the_same_random_numbers_as_without(train):
    _, warm = train()
    _, plain = train(None, folder="plain")
    assert torch.equal(warm.random, plain.random)
    assert same(plain.begin, plain.before)
    assert not same(warm.begin, plain.begin)


def test_the_same_seed_gives_the_same_warm_up_and_another_seed_another(train):
    _, first = train()
    _, second = train(folder="again")
    _, other = train(folder="other", seed=1)
    assert same(first.steps[-1], second.steps[-1])
    assert not same(first.begin, other.begin)


def test_a_resumed_training_is_not_warmed_up_again_and_ends_the_same(train):
    trainer, whole = train(save_strategy="steps", save_steps=2, logging_steps=1)
    resumed, rest = train(folder="resumed", resume="run/checkpoint-2", logging_steps=1)
    assert len(rest.steps) == 2
    assert same(rest.steps[-1], whole.steps[-1])
    assert [LOSS in entry for entry in resumed.state.log_history].count(True) == 1
    assert resumed.state.log_history[0] == trainer.state.log_history[0]


def test_frozen_layers_are_cached_after_the_warm_up(train):
    _, cached = train(schedule="encoder", store_frozen="always")
    _, computed = train(folder="computed", schedule="encoder", store_frozen="never")
    for found, expected in zip(cached.steps, computed.steps, strict=True):
        assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_vectors_of_a_text_in_windows_are_the_mean_of_its_windows(tokenizer, tasks, encoder):
    text = {"tokens": ROWS[6]["tokens"] * 4, "intent": "PlayMusic", "slots": ROWS[6]["slots"] * 4}
    data = prepare_datasets({"train": [*ROWS, text]}, tokenizer, tasks, max_length=12)
    model = MultiTaskModel.from_encoder(encoder, data.tasks).eval()
    collator = MultiTaskDataCollator(tokenizer, data.tasks)
    batch = collator([data["train"][len(ROWS)], data["train"][0]])
    assert batch["row_windows"].sum(1).tolist()[0] > 1
    with torch.no_grad():
        vectors, logits = text_vectors(model, batch), model(**batch).logits["intent"]
        torch.testing.assert_close(model.heads["intent"](vectors), logits)


def test_tasks_that_the_warm_up_is_not_for(tokenizer, data, encoder):
    tasks = [
        TaskConfig("tone", "sequence_classification", labels=["a", "b"], problem_type="multi_label_classification"),
        TaskConfig("slots", "token_classification", labels=["O"]),
    ]
    with pytest.raises(ValueError, match="expected a task that gives a text one label, found none"):
        ContrastiveCallback(data["train"], MultiTaskDataCollator(tokenizer, tasks))
    collator = MultiTaskDataCollator(tokenizer, data.tasks)
    with pytest.raises(ValueError, match=r"contrastive: .*'slots'.*intent"):
        ContrastiveCallback(data["train"], collator, ContrastiveConfig(tasks=["slots"]))
    one_of_each = data["train"].select([0, 1, 2])
    with pytest.raises(ValueError, match="task 'intent' has no two training rows with the same label"):
        ContrastiveCallback(one_of_each, collator)
    streamed = prepare_datasets({"train": ROWS}, tokenizer, data.tasks, streaming=True)
    with pytest.raises(ValueError, match="cannot stream"):
        ContrastiveCallback(streamed["train"], collator)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, found 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, found 1"),
        ({"temperature": 0.0}, "temperature must be a positive number, found 0.0"),
        ({"tasks": []}, "tasks is empty"),
    ],
)
def test_wrong_settings(values, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveConfig(**values)


def test_nothing_left_to_train_is_refused_before_training(train):
    with pytest.raises(ValueError, match="nothing of the encoder trains in the warm-up"):
        train(ContrastiveConfig(freeze="encoder"))
    with pytest.raises(ValueError, match=r"group 'encoder\.7'"):
        train(ContrastiveConfig(freeze=["encoder.7"]))


@pytest.fixture
def values(encoder, tmp_path):
    return {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": ROWS, "validation": ROWS[:9]},
        "contrastive": {"epochs": 2, "learning_rate": "1e-3"},
        "training": {"num_train_epochs": 1, "use_cpu": True, "disable_tqdm": True},
        "output_dir": str(tmp_path / "out"),
    }


def test_a_run_keeps_the_record_of_its_warm_up(values, tmp_path):
    run_training(RunConfig.from_dict(values))
    history = json.loads((tmp_path / "out" / "history.json").read_text())["history"]
    assert [entry["contrastive_steps"] for entry in history if LOSS in entry] == [2]
    assert "Contrastive warm-up" in (tmp_path / "out" / "report.html").read_text()
    kept = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert kept["contrastive"] == {"epochs": 2, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("contrastive", "message"),
    [
        ({"epoch": 2}, "contrastive: .*'epoch'.*epochs"),
        ({"tasks": ["intents"]}, "contrastive: .*'intents'.*intent"),
        ({"epochs": 2.5}, "contrastive: .*epochs"),
        ("yes", "contrastive: expected a mapping"),
    ],
)
def test_wrong_keys_are_refused_before_the_data_is_read(values, contrastive, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_dict({**values, "data": {"train": "missing.jsonl"}, "contrastive": contrastive})


def test_rows_that_score_a_fold_are_not_in_its_warm_up(values):
    values["data"] = {"train": ROWS, "folds": 2}
    trainer, _ = build_trainer(RunConfig.from_dict(values))
    (warm_up,) = [item for item in trainer.callback_handler.callbacks if isinstance(item, ContrastiveCallback)]
    assert len(trainer.eval_dataset) == 11
    assert warm_up.rows["input_ids"][:] == trainer.train_dataset["input_ids"][:]
    assert len(warm_up.labels["intent"]) == 11


def test_a_protected_task_is_refused(values):
    stages = [{"name": "intent", "train": ["encoder", "head.intent"]}]
    values["freeze"] = {"stages": stages, "protect": {"slots": {"distill": 1.0}}}
    with pytest.raises(ValueError, match="the schedule protects slots"):
        run_training(RunConfig.from_dict(values))
