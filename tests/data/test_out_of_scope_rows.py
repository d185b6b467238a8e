"""Rows that belong to no label: marked by a label or in files of their own."""

import logging

import datasets
import pytest

from hf_multitask import DataConfig, RunConfig, TaskConfig, prepare_datasets
from hf_multitask.data.labels.unseen_labels import OUT_OF_SCOPE
from tests.tiny import ROWS

STRANGE = [{"text": "são"}, {"text": "out of the old", "intent": "PlayMusic"}]
INTENT = TaskConfig("intent", "sequence_classification", abstain={})
SLOTS = TaskConfig("slots", "token_classification")


def intents(split):
    return [row["intent"] for row in split["labels"]]


def test_a_file_of_its_own_is_added_to_train(tokenizer, write_jsonl, caplog):
    outside = str(write_jsonl(STRANGE))
    with caplog.at_level(logging.INFO):
        data = prepare_datasets({"train": ROWS, "validation": ROWS}, tokenizer, [INTENT, SLOTS], out_of_scope=outside)
    assert len(data["train"]) == len(ROWS) + 2
    assert len(data["validation"]) == len(ROWS)
    # Only the texts are read: the label of the second row is not used.
    assert intents(data["train"])[len(ROWS) :] == [OUT_OF_SCOPE] * 2
    assert min(intents(data["train"])[: len(ROWS)]) >= 0
    assert data.tasks[0].labels == sorted({row["intent"] for row in ROWS})
    # Other tasks have no label in these rows.
    assert {tag for row in data["train"]["labels"][len(ROWS) :] for tag in row["slots"]} == {-100}
    assert "2 rows are out of scope of task 'intent', with a loss of weight 0.5." in caplog.text
    assert "have no label for 'intent'" not in caplog.text
    report = data.reports["train"]
    assert (report.rows, report.out_of_scope["intent"]) == (len(ROWS) + 2, 2)
    assert (report.unlabelled_rows["intent"], report.unlabelled_rows["slots"]) == (0, 2)


def test_each_split_may_have_rows(tokenizer):
    outside = {"validation": STRANGE, "test": datasets.Dataset.from_list(STRANGE[:1])}
    data = prepare_datasets(
        {"train": ROWS, "validation": ROWS, "test": ROWS}, tokenizer, [INTENT], out_of_scope=outside
    )
    assert [intents(data[split]).count(OUT_OF_SCOPE) for split in ("train", "validation", "test")] == [0, 2, 1]


@pytest.mark.parametrize(("weight", "expected"), [(0.5, OUT_OF_SCOPE), (0.0, -100)])
def test_a_label_marks_rows_too(tokenizer, weight, expected):
    task = TaskConfig("intent", "sequence_classification", out_of_scope="oos", outlier_weight=weight)
    rows = [*ROWS, {"tokens": ["são"], "intent": "oos"}]
    data = prepare_datasets({"train": rows, "validation": rows}, tokenizer, [task])
    assert intents(data["train"])[-1] == expected
    assert intents(data["validation"])[-1] == OUT_OF_SCOPE
    assert data.reports["train"].out_of_scope["intent"] == 1


def test_streamed_rows_are_marked_by_a_label(tokenizer, write_jsonl):
    task = TaskConfig("intent", "sequence_classification", out_of_scope="oos")
    path = str(write_jsonl([*ROWS, {"tokens": ["são"], "intent": "oos"}]))
    data = prepare_datasets(DataConfig(train=path, streaming=True), tokenizer, [task])
    assert [row["labels"]["intent"] for row in data["train"]][-1] == OUT_OF_SCOPE


def test_a_share_of_train_has_its_share_of_them(tokenizer):
    outside = [{"text": f"strange {i}"} for i in range(10)]
    config = DataConfig(train=ROWS * 4, out_of_scope=outside, validation_split=0.2)
    data = prepare_datasets(config, tokenizer, [INTENT])
    assert [intents(data[split]).count(OUT_OF_SCOPE) for split in ("train", "validation")] == [8, 2]


def test_in_a_mix_of_datasets_only_the_dataset_with_the_task_has_them(tokenizer):
    slots = [{"tokens": row["tokens"], "slots": row["slots"]} for row in ROWS]
    configs = [
        DataConfig(train=ROWS, tasks=["intent"], out_of_scope=STRANGE),
        DataConfig(train=slots, tasks=["slots"]),
    ]
    data = prepare_datasets(configs, tokenizer, [INTENT, SLOTS])
    assert intents(data["train"]).count(OUT_OF_SCOPE) == 2
    assert len(data["train"]) == 2 * len(ROWS) + 2
    configs[1].out_of_scope = STRANGE
    with pytest.raises(ValueError, match=r"data.out_of_scope: no task of these rows abstains; give a task"):
        prepare_datasets(configs, tokenizer, [INTENT, SLOTS])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"out_of_scope": {"tests": STRANGE}}, r"out_of_scope: unknown split 'tests'.*test"),
        ({"out_of_scope": {"test": STRANGE}}, r"data.out_of_scope has rows for test, which is not given"),
        ({"out_of_scope": {"train": None}}, r"data.out_of_scope.train: expected a file, a dataset or a list of rows"),
        ({"out_of_scope": 3}, r"data.out_of_scope.train: expected a file"),
        ({"out_of_scope": STRANGE, "streaming": True}, r"streamed cannot be mixed with rows of another file"),
    ],
)
def test_values_that_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(train=ROWS, **values)


def test_rows_need_a_text(tokenizer, write):
    path = write("outside.csv", "text,intent\nplay,a\n,b\n")
    with pytest.raises(ValueError, match=rf"{path}:3: 'text' is empty|{path}:3"):
        prepare_datasets({"train": ROWS}, tokenizer, [INTENT], out_of_scope=str(path))


def test_a_config_file_finds_the_files_beside_it(tmp_path, write_jsonl):
    for name in ("train", "outside"):
        write_jsonl(ROWS, tmp_path / f"{name}.jsonl")
    text = "encoder: e\ntasks: [{name: intent, type: sequence_classification, abstain: {}}]\noutput_dir: out\n"
    for given in ("outside.jsonl", "{train: outside.jsonl}"):
        (tmp_path / "run.yaml").write_text(f"{text}data: {{train: train.jsonl, out_of_scope: {given}}}\n")
        config = RunConfig.from_file(tmp_path / "run.yaml")
        assert config.data.out_of_scope_sources() == {"train": str(tmp_path / "outside.jsonl")}
