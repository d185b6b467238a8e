"""Scores of a teacher as a column: computed once, aligned at words, and trained on."""

import shutil

import datasets
import numpy as np
import pytest
import torch
from torch import nn

from hf_multitask import (
    DataConfig,
    MultiTaskDataCollator,
    MultiTaskModel,
    TaskConfig,
    load_tokenizer,
    prepare_datasets,
)
from hf_multitask.models.text_alignment import MIN_LOG_PROBABILITY
from hf_multitask.prediction import teachers
from hf_multitask.training.distillation import Distillation
from hf_multitask.training.teacher_targets import add_teacher_targets
from tests.tiny import ROWS
from tests.trainers import make_trainer, without_dropout

KINDS = {"intent": "sequence_classification", "slots": "token_classification"}
LABELED, UNLABELED = ROWS[:12], [{"tokens": row["tokens"]} for row in ROWS[12:]]


def make_tasks(**slots):
    return [TaskConfig(name, kind, dropout=0.0, **(slots if name == "slots" else {})) for name, kind in KINDS.items()]


def save_teacher(encoder, folder):
    """Save a teacher with random heads; return its folder."""
    tokenizer = load_tokenizer(encoder)
    tasks = prepare_datasets({"train": ROWS}, tokenizer, make_tasks()).tasks
    model = MultiTaskModel.from_encoder(encoder, tasks)
    for head in model.heads.values():
        nn.init.normal_(head.classifier.weight, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prepare(tokenizer, tasks=None, **options):
    configs = [
        DataConfig(train=LABELED, validation=ROWS[:10], **options),
        DataConfig(train=UNLABELED, tasks=[], **options),
    ]
    # The label sets are those of all rows.
    labels = {task.name: task.labels for task in prepare_datasets({"train": ROWS}, tokenizer, make_tasks()).tasks}
    tasks = tasks or make_tasks()
    for task in tasks:
        task.labels = labels[task.name]
    return prepare_datasets(configs, tokenizer, tasks, train_texts=True)


@pytest.fixture
def teacher(encoders, tmp_path):
    return save_teacher(encoders["roberta"], tmp_path / "teacher")


@pytest.fixture
def data(tokenizer, teacher):
    return add_teacher_targets(prepare(tokenizer), teacher)


def weights_of(trainer):
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}


def train(encoder, data, folder, resume=None, given=None, schedule=None, **arguments):
    torch.manual_seed(0)
    model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    options = {"use_cpu": True, "learning_rate": 1e-3, "max_steps": 6, "logging_steps": 1, **arguments}
    trainer = make_trainer(model, data, load_tokenizer(encoder), folder, schedule, given, **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def test_rows_and_words_have_the_scores_of_the_teacher(data, teacher):
    rows = data["train"]
    assert len(rows) == len(ROWS)
    texts = {"tokens": [row["tokens"] for row in ROWS], "text": [None] * 22, "text_pair": [None] * 22}
    expected = teachers.load_teacher(teacher, data.tasks).predict(texts, 4)
    for i, row in enumerate(rows):
        for name in KINDS:
            assert np.allclose(row["teacher"][name], expected[name][i].ravel(), atol=0.02)
    assert rows.features["teacher"]["slots"] == datasets.List(datasets.Value("float16"))
    assert "teacher" not in data["validation"].column_names


def test_the_report_counts_rows_and_agreement_with_labels(data, caplog):
    report = data.teacher
    assert (report.rows, report.labeled_rows) == (22, {"intent": 12, "slots": 12})
    right = counted = 0
    for row in data["train"].select(range(12)):
        scores = np.array(row["teacher"]["slots"]).reshape(len(row["tag_positions"]), -1)
        right += (scores.argmax(-1) == row["labels"]["slots"]).sum()
        counted += len(scores)
    assert report.agreement["slots"] == pytest.approx(right / counted)
    assert 0 < right < counted
    assert str(report).startswith("22 rows (12 labeled for 'intent', 12 labeled for 'slots'); predicts ")


def test_a_rerun_reads_the_scores_and_another_teacher_or_text_does_not(tokenizer, teacher, encoders, tmp_path):
    prepared = prepare(tokenizer)
    first = add_teacher_targets(prepared, teacher)["train"]
    calls = []
    original = teachers.Teacher.predict

    def counting(self, *args):
        calls.append(self.name)
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers.Teacher, "predict", counting)
        again = add_teacher_targets(prepare(tokenizer), teacher)["train"]
        assert not calls
        assert again["teacher"][:] == first["teacher"][:]
        assert again.data.column("teacher").equals(first.data.column("teacher"))
        other = save_teacher(encoders["xlm-roberta"], tmp_path / "other")
        add_teacher_targets(prepared, other)
        assert calls == [str(other)]
        add_teacher_targets(prepared, [teacher, other])
        assert calls == [str(other), str(teacher), str(other)]


def test_damaged_scores_are_named_and_computed_again(tokenizer, teacher, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    first = add_teacher_targets(prepare(tokenizer), teacher)["train"]["teacher"][:]
    (path,) = (tmp_path / "cache").rglob("teacher-*.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert add_teacher_targets(prepare(tokenizer), teacher)["train"]["teacher"][:] == first
    assert f"{path}: the cached rows are damaged: its content has changed" in caplog.text


def test_all_subwords_of_a_word_share_its_scores(encoders, teacher):
    tokenizer = load_tokenizer(encoders["roberta"])  # it splits words
    data = add_teacher_targets(prepare(tokenizer, label_subwords="all"), teacher)
    by_word = add_teacher_targets(prepare(tokenizer), teacher)
    assert data.teacher == by_word.teacher
    trainer_batch = make_batch(data, tokenizer)
    task = data.tasks[1]
    rows = data["train"].select(range(4))
    split = 0
    for i, row in enumerate(rows):
        scores = np.array(row["teacher"]["slots"]).reshape(-1, task.num_labels)
        found = trainer_batch["teacher"]["slots"][i][: len(row["tag_words"])].numpy()
        for j, word in enumerate(row["tag_words"]):
            expected = scores[word].copy()
            if j and row["tag_words"][j - 1] == word:
                split += 1
                begin, inside = task.label2id["B-place"], task.label2id["I-place"]
                expected[inside] = np.logaddexp(expected[begin], expected[inside])
                expected[begin] = MIN_LOG_PROBABILITY
            assert np.allclose(found[j], expected, atol=1e-3)
    assert split > 0


def make_batch(data, tokenizer):
    return MultiTaskDataCollator(tokenizer, data.tasks)([data["train"][i] for i in range(4)])


def test_the_student_moves_towards_its_teacher(encoder, data, tmp_path):
    options = {"num_train_epochs": 25, "max_steps": -1, "learning_rate": 1e-2}
    distances = {}
    for weight in (0.0, 4.0):
        given = {"distillation": Distillation(weight=weight)}
        distances[weight] = logged(train(encoder, data, tmp_path, given=given, **options), "slots_teacher_loss")
    assert np.mean(distances[4.0][-6:]) < 0.5 * np.mean(distances[0.0][-6:])


def test_without_weight_the_scores_change_nothing(encoder, tokenizer, data, tmp_path):
    plain = train(encoder, prepare(tokenizer), tmp_path)
    zero = train(encoder, data, tmp_path, given={"distillation": Distillation(weight=0.0)})
    one = train(encoder, data, tmp_path)
    assert all(torch.equal(weight, weights_of(zero)[name]) for name, weight in weights_of(plain).items())
    assert not all(torch.equal(weight, weights_of(one)[name]) for name, weight in weights_of(plain).items())
    assert logged(one, "intent_teacher_loss")
    assert not logged(plain, "intent_teacher_loss")


@pytest.mark.parametrize("subwords", ["first", "all"])
def test_accumulation_does_not_change_the_training(subwords, encoders, teacher, tmp_path):
    encoder = encoders["roberta"]
    tokenizer = load_tokenizer(encoder)
    data = add_teacher_targets(prepare(tokenizer, label_subwords=subwords), teacher)
    options = {"train_sampling_strategy": "sequential", "max_steps": 4}
    whole = train(encoder, data, tmp_path, per_device_train_batch_size=8, **options)
    cut = train(encoder, data, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4, **options)
    for name, weight in weights_of(whole).items():
        assert torch.allclose(weight, weights_of(cut)[name], atol=2e-5), name
    assert logged(whole, "slots_teacher_loss") == pytest.approx(logged(cut, "slots_teacher_loss"), rel=1e-3)


STAGES = {"stages": [{"train": "heads", "steps": 3}, {"train": "all"}]}


@pytest.mark.parametrize(
    ("schedule", "slots", "arguments"),
    [
        (None, {}, {}),
        (STAGES, {"head": "lstm", "mix_layers": True, "crf": True}, {"ema_decay": 0.8}),
        (STAGES, {}, {"store_frozen": "always", "gradient_accumulation_steps": 2}),
        ({**STAGES, "protect": {"slots": {"distill": 0.5}}}, {}, {"max_tokens_per_batch": 64}),
    ],
    ids=["plain", "heads, EMA", "stored, accumulated", "protected, by tokens"],
)
def test_a_resumed_run_ends_with_the_same_bits(schedule, slots, arguments, encoder, tokenizer, teacher, tmp_path):
    data = add_teacher_targets(prepare(tokenizer, make_tasks(**slots)), teacher)
    if schedule is not None and "protect" in schedule:
        schedule = {**schedule, "stages": [STAGES["stages"][0], {"freeze": ["head.slots"]}]}
    options = {"save_strategy": "steps", "save_steps": 2, **arguments}
    expected = weights_of(train(encoder, data, tmp_path / "whole", schedule=schedule, **options))
    # A schedule needs further files of its run's folder.
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    checkpoint = tmp_path / "resumed" / "checkpoint-4"
    fresh = add_teacher_targets(prepare(tokenizer, make_tasks(**slots)), teacher)
    resumed = train(encoder, fresh, tmp_path / "resumed", str(checkpoint), schedule=schedule, **options)
    found = weights_of(resumed)
    assert [name for name, weight in expected.items() if not torch.equal(weight, found[name])] == []


def test_training_rows_can_be_evaluated(encoder, data, tmp_path):
    trainer = train(encoder, data, tmp_path, max_steps=1)
    assert trainer.evaluate(data["train"])["eval_slots_loss"] > 0


def test_long_rows_are_trained_on_in_windows(encoder, tokenizer, teacher, tmp_path):
    data = add_teacher_targets(prepare(tokenizer, max_length=8), teacher)
    assert data.reports["train"].windowed_rows
    assert np.isfinite(logged(train(encoder, data, tmp_path), "slots_teacher_loss")).all()


def test_a_student_without_token_tasks_has_a_teacher_with_some(encoder, tokenizer, teacher, tmp_path):
    rows = [{"text": " ".join(row["tokens"]), "intent": row["intent"]} for row in ROWS]
    tasks = make_tasks()[:1]
    data = add_teacher_targets(prepare_datasets({"train": rows}, tokenizer, tasks, train_texts=True), teacher)
    words = {"tokens": [row["tokens"] for row in ROWS], "text": [None] * 22, "text_pair": [None] * 22}
    expected = teachers.load_teacher(teacher, data.tasks).predict(words, 32)["intent"]
    assert np.allclose(data["train"]["teacher"][0]["intent"], expected[0], atol=0.02)


def test_what_cannot_be_scored_is_refused(tokenizer, teacher, data, tmp_path):
    without_texts = prepare_datasets({"train": ROWS}, tokenizer, make_tasks())
    with pytest.raises(
        ValueError, match=r"needs the texts of all training rows: prepare_datasets\(…, train_texts=True"
    ):
        add_teacher_targets(without_texts, teacher)
    streamed = prepare_datasets({"train": ROWS}, tokenizer, data.tasks, streaming=True, train_texts=True)
    with pytest.raises(ValueError, match="streamed rows have no teacher"):
        add_teacher_targets(streamed, teacher)
    with pytest.raises(ValueError, match=r"tasks: unknown task 'slot'\. Did you mean 'slots'"):
        add_teacher_targets(data, teacher, tasks=["slot"])
    with pytest.raises(ValueError, match="teacher is empty"):
        add_teacher_targets(data, [])
