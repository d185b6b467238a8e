"""Runs on several datasets, long texts, streams, and rare labels."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import yaml

from hf_multitask import (
    DataConfig,
    MultiTaskModel,
    RunConfig,
    Sampling,
    TaskConfig,
    load_tokenizer,
    prepare_datasets,
    run_evaluation,
    run_training,
)
from hf_multitask.data import DATASET_COLUMN
from hf_multitask.models.tags_schemes import from_iob2
from tests.predictions import predict
from tests.tiny import ROWS
from tests.trainers import make_trainer

EXAMPLE = Path(__file__).parents[2] / "examples" / "wnut17-clinc150.yaml"
TASKS = [
    {"name": "intent", "type": "sequence_classification"},
    {"name": "slots", "type": "token_classification"},
]


@pytest.fixture
def values(encoder, tmp_path):
    """Return a config with intents in CSV files and slots in CoNLL files, of different sentences."""
    for split, intents, slots in (("train", ROWS[:14], ROWS[14:]), ("validation", ROWS[:6], ROWS[3:9])):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [("utterance", "label"), *((" ".join(row["tokens"]), row["intent"]) for row in intents)]
            )
        words = ("\n".join(map("\t".join, zip(row["tokens"], row["slots"], strict=True))) for row in slots)
        (tmp_path / f"{split}.conll").write_text("\n\n".join(words))
    return {
        "encoder": str(encoder),
        "tasks": TASKS,
        "data": [
            {
                "tasks": ["intent"],
                "train": str(tmp_path / "train.csv"),
                "validation": str(tmp_path / "validation.csv"),
                "columns": {"text": "utterance", "intent": "label"},
            },
            {
                "tasks": ["slots"],
                "train": str(tmp_path / "train.conll"),
                "validation": str(tmp_path / "validation.conll"),
                "columns": {"tokens": 0, "slots": 1},
            },
        ],
        "sampling": {"strategy": "temperature", "stopping": "all_exhausted"},
        "training": {
            "num_train_epochs": 2,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 8,
            "logging_steps": 2,
        },
        "output_dir": str(tmp_path / "out"),
    }


def run(values, **arguments):
    return run_training(RunConfig.from_dict(values), **arguments)


def test_one_dataset_per_task_trains_one_model(values, caplog):
    with caplog.at_level("INFO"):
        metrics = run(values)["validation"]
    assert {"intent_accuracy", "slots_f1", "mean_score", "intent_loss", "slots_loss"} <= metrics.keys()
    assert "joint_accuracy" not in metrics
    # sqrt(14) : sqrt(8) of 25 rows per epoch, the fewest rows that contain all 14 intents.
    assert "Rows trained on: intent 28, slots 22." in caplog.text
    state = json.loads(max(Path(values["output_dir"]).glob("checkpoint-*/trainer_state.json")).read_text())
    assert state["best_metric"] == pytest.approx(metrics["mean_score"])
    assert sum(entry.get("intent_rows", 0) for entry in state["log_history"]) > 0


def test_batches_mix_the_rows_of_all_tasks_and_the_encoder_runs_once_per_batch(values, monkeypatch):
    config = RunConfig.from_dict(values)
    tokenizer = load_tokenizer(config.encoder)
    data = prepare_datasets(config.data_configs, tokenizer, config.tasks)
    model = MultiTaskModel.from_encoder(config.encoder, data.tasks)
    trainer = make_trainer(model, data, tokenizer, config.output_dir, None, {"sampling": config.sampling})
    passes, passes_by_step, mixed = [], [], []
    model.encoder.register_forward_hook(lambda *_: passes.append(1))
    compute_loss = trainer.compute_loss

    def note(model, inputs, *args, **kwargs):
        has_intent = inputs["labels"]["intent"] != -100
        has_slots = (inputs["labels"]["slots"] != -100).any(1)
        assert not (has_intent & has_slots).any()
        mixed.append(bool(has_intent.any() and has_slots.any()))
        passes.clear()
        loss = compute_loss(model, inputs, *args, **kwargs)
        passes_by_step.append(len(passes))
        return loss

    monkeypatch.setattr(trainer, "compute_loss", note)
    trainer.train()
    assert any(mixed)
    assert passes_by_step == [1] * trainer.state.global_step


def test_a_dataset_with_all_labels_and_a_dataset_with_some(encoder, tokenizer, tasks):
    both = DataConfig(train=ROWS[:10], validation=ROWS[:4])
    some = DataConfig(train=ROWS[10:], tasks=["slots"])
    data = prepare_datasets([both, some], tokenizer, tasks)
    assert data["train"][DATASET_COLUMN] == [0] * 10 + [1] * 12
    assert [labels["intent"] != -100 for labels in data["train"]["labels"]] == [True] * 10 + [False] * 12
    assert all(any(tag != -100 for tag in labels["slots"]) for labels in data["train"]["labels"])
    assert data.reports["train"].fully_labelled_rows == 10


@pytest.mark.parametrize(("strategy", "instead"), [("round_robin", "uniform"), ("annealed", "temperature")])
def test_configs_with_a_removed_strategy_are_refused(strategy, instead, values, tmp_path):
    values["sampling"] = {"strategy": strategy}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=f"sampling strategy {strategy!r} was removed; use {instead!r}"):
        RunConfig.from_file(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["intents"]}, "data: unknown task 'intents'. Did you mean 'intent'"),
        ({"tasks": ["slots"]}, "no dataset has the task 'intent'"),
        ({"max_length": 12}, "data: max_length must be the same in all datasets"),
        ({"tasks": None}, "unknown column 'slots'"),
        ({"strategy": "uniform"}, "unknown key in data 'strategy'"),
        ({"truncate": True, "overlap": 3}, "truncate and overlap exclude each other"),
        ({"tag_scheme": "IOB3"}, "unknown tag scheme 'IOB3'. Did you mean 'IOB"),
        ({"span_mismatch": "widn"}, "unknown span_mismatch 'widn'. Did you mean 'widen'"),
        (
            {"train": 3},
            "data.train: expected a file, a split's name, a dataset, a data frame or a list of rows, found 3",
        ),
        ({"train": None}, "data.0.train is missing"),
        ({"validation_split": 0.1}, "validation and validation_split exclude each other"),
    ],
)
def test_invalid_options_of_a_dataset_are_refused(change, message, values):
    values["data"][0] |= change
    with pytest.raises(ValueError, match=message):
        run(values)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sampling", {"strategy": "temprature"}, "unknown sampling strategy 'temprature'. Did you mean 'temperature'"),
        ("sampling", {"temprature": 2}, "unknown key in sampling 'temprature'. Did you mean 'temperature'"),
        ("sampling", "uniform", r"sampling must be a mapping such as \{strategy: uniform\}, found 'uniform'"),
        ("data", [], "data is empty"),
        ("data", ["a.csv"], "data must be a mapping such as"),
    ],
)
def test_invalid_options_of_the_mix_are_refused(key, value, message, values):
    with pytest.raises(ValueError, match=message):
        run(values | {key: value})


def test_the_command_line_replaces_a_whole_dataset_of_a_list(values, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"--data.train: 'data' is a list; give the whole list: --data"):
        RunConfig.from_file(path, {"data.train": "a"})


def test_datasets_with_different_labels_for_a_task_are_refused(tokenizer):
    configs = [
        DataConfig(train=[{"text": "a", "intent": label}, {"text": "b", "intent": "x"}]) for label in ("y", "z")
    ]
    task = TaskConfig("intent", "sequence_classification")
    with pytest.raises(
        ValueError, match="dataset 1, split train has labels that dataset 0, split train does not have: z"
    ):
        prepare_datasets(configs, tokenizer, [task])
    data = prepare_datasets(configs, tokenizer, [dataclasses.replace(task, labels=["x", "y", "z"])])
    assert data["train"]["labels"] == [{"intent": i} for i in (1, 0, 2, 0)]


def test_tag_schemes_may_differ_between_datasets(tokenizer, tasks):
    def rows(scheme):
        return [{**row, "slots": from_iob2(row["slots"], scheme)} for row in ROWS]

    configs = [DataConfig(train=rows("BILOU")), DataConfig(train=rows("IOB1"))]
    data = prepare_datasets(configs, tokenizer, tasks)
    labels = data["train"]["labels"]
    assert labels[:22] == labels[22:]
    assert data.tasks[1].tag_scheme is None


def test_tags_are_written_in_the_scheme_that_was_read(values, tmp_path):
    rows = [{**row, "slots": from_iob2(row["slots"], "BILOU")} for row in ROWS]
    values["data"] = {"train": str(tmp_path / "bilou.jsonl")}
    (tmp_path / "bilou.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(values | {"training": {"num_train_epochs": 40, "learning_rate": 5e-3, "head_learning_rate": 2e-2}})
    model, tokenizer = MultiTaskModel.from_pretrained(values["output_dir"]), load_tokenizer(values["output_dir"])
    texts = [{"tokens": row["tokens"]} for row in ROWS]

    def tags(**options):
        return [prediction["slots"]["labels"] for prediction in predict(model, tokenizer, texts, **options)]

    assert any("B-place" in row for row in tags())
    assert tags(tag_scheme="original") == [from_iob2(row, "BILOU") for row in tags()]
    assert tags(tag_scheme="raw") == [from_iob2(row, "raw") for row in tags()]
    with pytest.raises(ValueError, match=r"unknown tag scheme 'IOB22'\. Did you mean 'IOB2'"):
        tags(tag_scheme="IOB22")
    as_trained = run_evaluation(values["output_dir"], rows)
    assert run_evaluation(values["output_dir"], ROWS, tag_scheme="IOB2") == as_trained
    with pytest.raises(ValueError, match=r"(is not a tag of BILOU|breaks the rule)"):
        run_evaluation(values["output_dir"], [{**row, "slots": from_iob2(row["slots"], "BIOES")} for row in ROWS])


@pytest.mark.parametrize(
    "options", [{"max_length": 8}, {"max_length": 8, "truncate": True}, {"label_subwords": "last"}]
)
def test_a_saved_model_cuts_and_reads_words_as_in_training(options, values, tmp_path, write_jsonl):
    rows = [{**row, "tokens": row["tokens"] * 3, "slots": row["slots"] * 3} for row in ROWS]
    values["data"] = {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(rows)), **options}
    metrics = run(values)["validation"]
    assert run_evaluation(values["output_dir"], rows) == pytest.approx(metrics, abs=1e-6)
    model, tokenizer = MultiTaskModel.from_pretrained(values["output_dir"]), load_tokenizer(values["output_dir"])
    assert tokenizer.model_max_length == options.get("max_length", 48)
    assert model.config.truncate == options.get("truncate", False)
    assert model.config.tasks[1].label_subword == options.get("label_subwords", "first")
    for row, prediction in zip(rows, predict(model, tokenizer, rows), strict=True):
        assert len(prediction["slots"]["labels"]) == len(row["tokens"])


def test_a_streamed_run_ends_after_its_steps(values, tmp_path, write_jsonl):
    values["data"] = {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(ROWS[:9])), "streaming": True}
    values["training"] = {"max_steps": 10, "per_device_train_batch_size": 4, "save_total_limit": 20}
    assert "slots_f1" in run(values)["validation"]
    steps = sorted(int(path.name.split("-")[1]) for path in Path(values["output_dir"]).glob("checkpoint-*"))
    assert steps == list(range(1, 11))
    shutil.rmtree(Path(values["output_dir"]) / "checkpoint-10")
    (Path(values["output_dir"]) / "model.safetensors").unlink()
    run(values, resume=True)


@pytest.mark.parametrize("streaming", [False, True])
def test_splits_of_a_hub_dataset_can_be_streamed(streaming, values, write_jsonl, tmp_path):
    (tmp_path / "set").mkdir()
    for split, rows in (("train", ROWS), ("validation", ROWS[:9])):
        write_jsonl(rows, tmp_path / "set" / f"{split}.jsonl")
    folder = {"name": str(tmp_path / "set"), "train": "train", "validation": "validation", "streaming": streaming}
    values["data"], values["training"] = folder, {"max_steps": 3}
    assert "slots_f1" in run(values)["validation"]


def test_validation_is_split_off_from_train_if_there_is_none(values, tokenizer, tasks, write_jsonl):
    values["data"] = {"train": str(write_jsonl(ROWS)), "validation_split": 0.25}
    assert "slots_f1" in run(values)["validation"]
    data = prepare_datasets({"train": ROWS}, tokenizer, tasks, validation_split=0.25)
    again = prepare_datasets({"train": ROWS}, tokenizer, tasks, validation_split=0.25)
    parts = [data[split]["input_ids"][:] for split in ("train", "validation")]
    assert parts == [again[split]["input_ids"][:] for split in ("train", "validation")]
    assert sorted(parts[0] + parts[1]) == sorted(
        prepare_datasets({"train": ROWS}, tokenizer, tasks)["train"]["input_ids"]
    )
    assert {labels["intent"] for labels in data["train"]["labels"]} == set(range(4))
    assert 4 <= len(parts[1]) <= 7


def test_mismatched_spans_are_counted_if_validation_is_split_off(tokenizer):
    rows = [{"text": "in paris now", "slots": [[3, 6, "place"]]} for _ in range(10)]
    data = prepare_datasets(
        {"train": rows}, tokenizer, [TaskConfig("slots", "token_classification")], validation_split=0.2
    )
    assert data.reports["train"].mismatched_spans["slots"] == 10


def test_balanced_class_weights_come_from_train(values, write_jsonl):
    values["tasks"] = [
        {**TASKS[0], "class_weights": "balanced", "label_smoothing": 0.1},
        {**TASKS[1], "class_weights": {"place": 3.0}},
    ]
    values["data"] = {"train": str(write_jsonl(ROWS))}
    run(values)
    intent, slots = MultiTaskModel.from_pretrained(values["output_dir"]).config.tasks
    counts = {label: sum(row["intent"] == label for row in ROWS) for label in intent.labels}
    assert intent.class_weights == pytest.approx({label: 22 / (4 * count) for label, count in counts.items()})
    assert slots.class_weights == {"O": 1.0, "B-place": 3.0, "I-place": 3.0}


@pytest.mark.realdata
@pytest.mark.slow
def test_the_example_of_two_public_datasets_scores_every_word_of_their_files(real_data, encoder, tmp_path):
    shutil.copy(EXAMPLE, tmp_path)
    for name in ("wnut17", "clinc150"):
        (tmp_path / name).symlink_to(real_data / name)
    overrides = {"encoder": str(encoder), "output_dir": str(tmp_path / "out"), "training.max_steps": 4}
    config = RunConfig.from_file(tmp_path / EXAMPLE.name, overrides)
    metrics = run_training(config)["test"]
    assert {"ner_f1", "intent_accuracy", "mean_score"} <= metrics.keys()
    data = prepare_datasets(config.data_configs, load_tokenizer(encoder), config.tasks)
    ner, intent = data.tasks
    lines = (real_data / "wnut17" / "test.conll").read_text(encoding="utf-8").split("\n")
    gold = [line.rstrip("\r").split("\t")[-1] for line in lines if line.strip()]
    found = [ner.labels[tag] for row in data["test"]["labels"] for tag in row["ner"] if tag != -100]
    assert found == gold
    with (real_data / "clinc150" / "test.csv").open(encoding="utf-8", newline="") as file:
        intents = [row["intent"] for row in csv.DictReader(file)]
    assert [intent.labels[row["intent"]] for row in data["test"]["labels"] if row["intent"] != -100] == intents


def test_the_example_with_private_layers_changes_what_its_comment_says():
    values = yaml.safe_load(EXAMPLE.read_text())
    values["tasks"][0]["private_layers"] = 2
    values["sampling"] = {"strategy": "proportional", "batches": "mixed"}
    values["training"] |= {"warmup_steps": 0.1, "packing": True}
    values["output_dir"] += "-private"
    assert yaml.safe_load(EXAMPLE.with_stem("wnut17-clinc150-private").read_text()) == values


def test_the_trainer_takes_sampling():
    with pytest.raises(ValueError, match="temperature must be a finite number from 1, found 0"):
        Sampling("temperature", 0)


def test_each_step_has_rows_of_each_dataset_with_mixed_batches(values):
    config = RunConfig.from_dict({**values, "sampling": {**values["sampling"], "batches": "mixed"}})
    tokenizer = load_tokenizer(config.encoder)
    data = prepare_datasets(config.data_configs, tokenizer, config.tasks)
    model = MultiTaskModel.from_encoder(config.encoder, data.tasks)
    given = {"sampling": config.sampling}
    trainer = make_trainer(model, data, tokenizer, config.output_dir, None, given, per_device_train_batch_size=6)
    batches = list(trainer.get_train_dataloader())
    assert len(batches) > 2
    for batch in batches[:-1]:
        assert 0 < int((batch["labels"]["intent"] != -100).sum()) < 6
    trainer = make_trainer(model, data, tokenizer, config.output_dir, None, given, max_tokens_per_batch=100)
    with pytest.raises(
        ValueError, match="batches='mixed' is for batches of a fixed number of rows; leave out max_tok"
    ):
        trainer.train()
