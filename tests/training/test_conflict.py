"""Conflict between tasks: known answers, a training that does not notice, and what is refused."""

import math

import datasets
import numpy as np
import pytest
import torch
from peft import LoraConfig

from hf_multitask import DataConfig, MultiTaskModel, MultiTaskTrainingArguments, TaskConfig, prepare_datasets
from hf_multitask.training.conflict import check_conflict, conflict_entries
from hf_multitask.training.conflict_log import lowest_cosine, mean_shares, read_conflict, summarize_conflict
from hf_multitask.training.shared_rows import SharedRows, labeled_rows
from hf_multitask.training.task_gradients import GradientComparison
from tests.tiny import ROWS, SENTENCES
from tests.trainers import make_trainer, without_dropout

LABELS = ("no", "yes")


def train(
    encoder, tokenizer, data, folder, schedule=None, tasks=None, lora=None, resume=None, given=None, **arguments
):
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(encoder, tasks or data.tasks)
    if lora is not None:
        model.add_adapter(lora)
    defaults = {"max_steps": 6, "logging_steps": 2, "learning_rate": 1e-3}
    trainer = make_trainer(model, data, tokenizer, folder, schedule, given, **{**defaults, **arguments})
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def two_tasks(tokenizer, contradict):
    """Return rows of two tasks with the same labels, or with the opposite ones."""
    rows = []
    for i in range(16):
        label = LABELS[i % 2]
        other = LABELS[1 - i % 2] if contradict else label
        rows.append({"tokens": SENTENCES[i % 8].split(), "one": label, "two": other})
    tasks = [TaskConfig(name, "sequence_classification") for name in ("one", "two")]
    return prepare_datasets({"train": rows, "validation": rows}, tokenizer, tasks)


@pytest.fixture(params=[True, False], ids=["contradicting", "copies"])
def known(request, encoder, tokenizer, tmp_path):
    """Return whether two tasks contradict each other, and the log of a training on them with equal heads."""
    data = two_tasks(tokenizer, request.param)
    torch.manual_seed(0)
    model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    # Equal heads that stay as they are and find both labels equally likely: contradicting labels then have opposite
    # gradients. Heads that train would learn opposite weights, and the tasks would agree below them.
    for weight in model.heads["one"].parameters():
        weight.data.mul_(0.02)
    model.heads["two"].load_state_dict(model.heads["one"].state_dict())
    options = {"max_steps": 2, "conflict_steps": 1, "learning_rate": 1e-4}
    trainer = make_trainer(model, data, tokenizer, tmp_path, {"stages": [{"train": "encoder"}]}, **options)
    trainer.train()
    return request.param, trainer.state.log_history


def test_tasks_that_contradict_each_other_and_copies_of_one_task(known):
    contradict, history = known
    entries = [entry for entry in history if "conflict_one_two_all" in entry]
    assert [entry["step"] for entry in entries] == [1, 2]
    names = ["embeddings", "encoder.0", "encoder.1", "encoder.2", "all"]
    for entry in entries:
        cosines = [entry[f"conflict_one_two_{group}"] for group in names]
        assert all(cosine < -0.5 if contradict else cosine > 0.99 for cosine in cosines)
        shares = [entry[f"gradient_share_{task}_all"] for task in ("one", "two")]
        assert sum(shares) == pytest.approx(1)
        assert shares == pytest.approx([0.5, 0.5], abs=0.1)
    sentence = summarize_conflict(["one", "two"], history)
    if contradict:
        assert sentence.startswith("The tasks one and two pulled apart in embeddings, encoder.0-2: the cosine of")
    else:
        assert sentence.startswith("The tasks did not pull apart: the lowest cosine, of one and two, was +")
    lowest = lowest_cosine(["one", "two"], history)
    assert lowest < -0.5 if contradict else lowest > 0.99


def state_of(trainer):
    optimizer = trainer.optimizer.optimizer.state_dict()["state"]
    moments = [value for state in optimizer.values() for value in state.values() if isinstance(value, torch.Tensor)]
    generators = [torch.get_rng_state(), torch.from_numpy(np.random.get_state()[1].astype(np.int64))]
    return [*trainer.model.state_dict().values(), *moments, *generators]


STAGES = {
    "stages": [{"train": "heads", "steps": 2}, {"train": ["encoder[-1:]", "heads"], "steps": 2}, {"train": "all"}]
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"bf16": True, "use_cpu": True},
        {"schedule": STAGES},
        {"activation_checkpointing": True, "neftune_noise_alpha": 5.0, "word_dropout": 0.2},
        {"lora": LoraConfig(r=2)},
        {"ema_decay": 0.9},
    ],
    ids=["plain", "accumulation", "bf16", "stages", "checkpointing", "lora", "ema"],
)
def test_a_training_does_not_notice(encoder, tokenizer, data, tmp_path, options):
    plain = train(encoder, tokenizer, data, tmp_path / "plain", **options)
    states = state_of(plain)
    compared = train(encoder, tokenizer, data, tmp_path / "compared", conflict_steps=1, **options)
    assert all(torch.equal(*pair) for pair in zip(states, state_of(compared), strict=True))
    logged = [entry for entry in compared.state.log_history if "conflict_intent_slots_all" in entry]
    assert len(logged) == (4 if "schedule" in options else 6)
    assert all(math.isfinite(value) for entry in logged for value in entry.values())

    def without_times(history):
        return [
            {name: value for name, value in entry.items() if not name.endswith(("runtime", "second"))}
            for entry in history
            if "conflict_intent_slots_all" not in entry
        ]

    assert without_times(plain.state.log_history) == without_times(compared.state.log_history)


def groups_of(entry):
    return {name.removeprefix("conflict_intent_slots_") for name in entry if name.startswith("conflict_")}


def test_only_groups_that_train_are_compared(encoder, tokenizer, data, tmp_path):
    trainer = train(encoder, tokenizer, data, tmp_path, STAGES, conflict_steps=1)
    by_step = {entry["step"]: groups_of(entry) for entry in trainer.state.log_history if groups_of(entry)}
    # After step 2 the heads alone have trained; the stage of the last layer begins with the next step.
    assert by_step == {
        3: {"encoder.2", "all"},
        4: {"encoder.2", "all"},
        5: {"embeddings", "encoder.0", "encoder.1", "encoder.2", "all"},
        6: {"embeddings", "encoder.0", "encoder.1", "encoder.2", "all"},
    }


def test_the_adapters_are_compared_with_lora(encoder, tokenizer, data, tmp_path):
    trainer = train(encoder, tokenizer, data, tmp_path, lora=LoraConfig(r=2), conflict_steps=6)
    (entry,) = [entry for entry in trainer.state.log_history if groups_of(entry)]
    assert groups_of(entry) == {"lora.0", "lora.1", "lora.2", "all"}


def test_tasks_of_different_datasets_have_rows_of_their_own(encoder, tokenizer, tasks, tmp_path):
    configs = [DataConfig(train=ROWS[i:], validation=ROWS[:5], tasks=[task.name]) for i, task in enumerate(tasks)]
    data = prepare_datasets(configs, tokenizer, tasks)
    plain = train(encoder, tokenizer, data, tmp_path / "plain")
    states = state_of(plain)
    trainer = train(encoder, tokenizer, data, tmp_path / "compared", conflict_steps=3)
    assert all(torch.equal(*pair) for pair in zip(states, state_of(trainer), strict=True))
    rows = SharedRows(data["train"], data.tasks, trainer.data_collator, 4, 0)
    batches = rows.draw(3)
    assert [[task.name for task in batch.tasks] for batch in batches] == [["intent"], ["slots"]]
    assert (batches[0].inputs["labels"]["intent"] >= 0).all()
    assert ((batches[1].inputs["labels"]["slots"] >= 0).any(1)).all()
    again = rows.draw(3)
    assert torch.equal(batches[0].inputs["input_ids"], again[0].inputs["input_ids"])
    assert any(
        not torch.equal(rows.draw(step)[0].inputs["labels"]["intent"], again[0].inputs["labels"]["intent"])
        for step in range(4, 8)
    )
    others = SharedRows(data["train"], data.tasks, trainer.data_collator, 4, 0, process=1, num_processes=2).draw(3)
    assert others[0].inputs["input_ids"].size(0) == 4


def test_labeled_rows(tokenizer, tasks):
    rows = [{**row, "intent": None} if i % 3 == 0 else row for i, row in enumerate(ROWS)]
    data = prepare_datasets({"train": rows, "validation": ROWS[:5]}, tokenizer, tasks)
    expected = [i for i in range(len(ROWS)) if i % 3]
    assert labeled_rows(data["train"], data.tasks)["intent"].tolist() == expected
    assert len(labeled_rows(data["train"], data.tasks)["slots"]) == len(ROWS)
    view = data["train"].select([4, 3, 2, 0])
    assert labeled_rows(view, data.tasks)["intent"].tolist() == [0, 2]
    numbers = datasets.Dataset.from_list([{"labels": {"score": [float("nan")]}}, {"labels": {"score": [0.5]}}])
    assert labeled_rows(numbers, [TaskConfig("score", "sequence_classification", labels=["score"])])["score"] == [1]


def test_a_resumed_run_logs_the_same(encoder, tokenizer, data, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 4, "conflict_steps": 2}
    whole = train(encoder, tokenizer, data, tmp_path / "whole", **saving)
    checkpoint = str(tmp_path / "whole" / "checkpoint-4")
    resumed = train(encoder, tokenizer, data, tmp_path / "resumed", resume=checkpoint, **saving)
    of_whole, of_resumed = (
        [entry for entry in trainer.state.log_history if groups_of(entry)] for trainer in (whole, resumed)
    )
    assert of_whole == of_resumed
    assert len(of_whole) == 3


def test_the_share_of_a_task_follows_its_weight():
    found = GradientComparison({"all": {"a": 1.0, "b": 3.0}}, {"all": {("a", "b"): 0.5}})
    assert conflict_entries(found, {"a": 1.0, "b": 1.0}) == {
        "conflict_a_b_all": 0.5,
        "gradient_share_a_all": 0.25,
        "gradient_share_b_all": 0.75,
    }
    assert conflict_entries(found, {"a": 3.0, "b": 1.0})["gradient_share_a_all"] == 0.5


def test_the_sentence_at_the_end():
    def history(*cosines, share=0.5):
        return [
            {
                "step": 10 * (i + 1),
                "conflict_a_b_encoder.0": cosine,
                "conflict_a_b_encoder.1": cosine - 0.2,
                "conflict_a_b_all": cosine - 0.1,
                "gradient_share_a_all": share,
                "gradient_share_b_all": 1 - share,
            }
            for i, cosine in enumerate(cosines)
        ]

    assert summarize_conflict(["a", "b"], [{"loss": 1.0, "step": 10}]) is None
    assert summarize_conflict(["a", "b"], history(0.0, 0.0)) == (
        "The tasks a and b pulled apart in encoder.1: the cosine of their gradients was -0.20 in encoder.1, the mean "
        "of 2 comparisons. Train each by itself to see what sharing costs, give one private_layers, or try "
        "loss_balancing: {torchjd: UPGrad}."
    )
    assert summarize_conflict(["a", "b"], history(0.5)) == (
        "The tasks did not pull apart: the lowest cosine, of a and b, was +0.30 in encoder.1, the mean of 1 "
        "comparison."
    )
    assert summarize_conflict(["a", "b"], history(0.5, share=0.1)).endswith(
        "But b made 90% of the gradients: try loss_balancing: equal_norm, or a lower loss_weight of it."
    )
    assert "of a and b, was +0.00 in encoder.1" in summarize_conflict(["a", "b"], history(0.199))
    assert mean_shares(["a", "b"], history(0.5, share=0.25)) == {"a": 0.25, "b": 0.75}
    (pair,) = read_conflict(["a", "b"], history(0.5, 0.7))
    assert pair.steps == [10, 20]
    assert pair.means() == pytest.approx({"encoder.0": 0.6, "encoder.1": 0.4, "all": 0.5})
    assert lowest_cosine(["a", "b"], []) is None


class TestRefused:
    def test_what_is_no_number_of_steps(self, tmp_path):
        with pytest.raises(ValueError, match="conflict_steps must be at least 1, found 0"):
            MultiTaskTrainingArguments(str(tmp_path), conflict_steps=0)

    def test_a_single_task(self, encoder, tokenizer, tmp_path):
        task = TaskConfig("intent", "sequence_classification")
        data = prepare_datasets({"train": ROWS, "validation": ROWS[:5]}, tokenizer, [task])
        with pytest.raises(ValueError, match=r"conflict_steps compares the gradients of tasks: .* found one"):
            train(encoder, tokenizer, data, tmp_path, conflict_steps=2)

    def test_pairs_with_the_same_name(self):
        tasks = [TaskConfig(name, "sequence_classification", labels=["x", "y"]) for name in ("a", "b_c", "a_b", "c")]
        with pytest.raises(
            ValueError, match="'a' and 'b_c' and the tasks 'a_b' and 'c' have the same name in the log"
        ):
            check_conflict(tasks)

    def test_streamed_rows(self, encoder, tokenizer, tasks, write_jsonl, tmp_path):
        config = DataConfig(train=str(write_jsonl(ROWS)), validation=ROWS[:5], streaming=True)
        data = prepare_datasets(config, tokenizer, tasks)
        with pytest.raises(ValueError, match="without streaming, found TrainingStream"):
            train(encoder, tokenizer, data, tmp_path, conflict_steps=2)

    def test_a_loss_of_the_caller(self, encoder, tokenizer, data, tmp_path):
        given = {"compute_loss_func": lambda outputs, labels, num_items_in_batch: outputs.loss}
        with pytest.raises(
            ValueError, match="conflict_steps is about the losses of the tasks; leave out compute_loss"
        ):
            train(encoder, tokenizer, data, tmp_path, given=given, conflict_steps=2)

    def test_reentrant_checkpointing(self, encoder, tokenizer, data, tmp_path):
        options = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}}
        with pytest.raises(ValueError, match="conflict_steps takes gradients of single weights, which reentrant"):
            train(encoder, tokenizer, data, tmp_path, conflict_steps=2, **options)
