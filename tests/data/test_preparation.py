"""Preparation of datasets: labels, alignment, and messages about bad input."""

import dataclasses

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask import DataConfig, TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.data.labels.unseen_labels import unseen_id
from hf_multitask.models.text_alignment import needs_prefix_space
from tests.tiny import ROWS, TOKENIZERS, make_tokenizer

INTENT = TaskConfig("intent", "sequence_classification")
SLOTS = TaskConfig("slots", "token_classification")
TOKENIZER = {kind: make_tokenizer(kind) for kind in TOKENIZERS}


def test_labels_are_read_from_train_in_a_stable_order(tokenizer):
    forward = prepare_datasets({"train": ROWS}, tokenizer, [INTENT, SLOTS])
    backward = prepare_datasets({"train": ROWS[::-1]}, tokenizer, [INTENT, SLOTS])
    assert forward.tasks == backward.tasks
    assert forward.tasks[0].labels == sorted({row["intent"] for row in ROWS})
    assert forward.tasks[0].problem_type == "single_label_classification"
    assert forward.tasks[1].labels == ["O", "B-place", "I-place"]


def test_labels_that_are_given_keep_their_order(tokenizer):
    labels = ["RateBook", "PlayMusic", "GetWeather", "BookRestaurant", "Unused"]
    task = TaskConfig("intent", "sequence_classification", labels=labels)
    assert prepare_datasets({"train": ROWS}, tokenizer, [task]).tasks[0].labels == labels


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_each_word_is_labeled_at_its_first_subword(kind):
    tokenizer = TOKENIZER[kind]
    data = prepare_datasets({"train": ROWS}, tokenizer, [INTENT, SLOTS])
    for row, prepared in zip(ROWS, data["train"], strict=True):
        assert len(prepared["tag_positions"]) == len(prepared["labels"]["slots"]) == len(row["tokens"])
        ids = prepared["input_ids"]
        ends = [*prepared["tag_positions"][1:], len(ids) - 1]
        for word, start, end in zip(row["tokens"], prepared["tag_positions"], ends, strict=True):
            assert tokenizer.decode(ids[start:end]).strip() == word


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(words=st.lists(st.text(max_size=12), min_size=1, max_size=20))
def test_one_word_one_label_whatever_the_tokenizer_drops(kind, words):
    row = {"tokens": words, "slots": ["O"] * len(words)}
    train = {"tokens": ["a"], "slots": ["B-x"]}
    data = prepare_datasets({"train": [train], "test": [row]}, TOKENIZER[kind], [SLOTS], max_length=10)
    prepared = data["test"][0]
    assert len(prepared["tag_positions"]) == len(prepared["labels"]["slots"]) == len(words)
    assert max(prepared.get("window_lengths", [prepared["length"]])) <= 10
    positions = [position for position in prepared["tag_positions"] if position >= 0]
    assert positions == sorted(set(positions))
    assert data.reports["test"].lost_words == prepared["tag_positions"].count(-1)


def test_byte_level_tokenizers_get_a_space_before_words_in_running_text():
    kinds = [kind for kind in TOKENIZERS if needs_prefix_space(TOKENIZER[kind])]
    assert kinds == ["byte-level", "byte-level-split"]
    tokenizer = TOKENIZER["byte-level"]
    row = {"tokens": ["play", "the", "beatles"], "slots": ["O", "O", "B-x"]}
    prepared = prepare_datasets({"train": [row]}, tokenizer, [SLOTS])["train"][0]
    assert prepared["input_ids"] == tokenizer("play the beatles")["input_ids"]


def test_all_subwords_are_labeled_on_request_in_train_only(tokenizer):
    row = {"tokens": ["wonderful", "paris", "\u200b"], "slots": ["B-x", "B-x", "O"]}
    splits = {"train": [row], "test": [row]}
    data = prepare_datasets(splits, tokenizer, [SLOTS], label_subwords="all")
    assert len(data["test"][0]["tag_positions"]) == 3
    subwords = tokenizer("wonderful", add_special_tokens=False)["input_ids"]
    train = data["train"][0]
    assert len(subwords) > 2
    assert train["tag_positions"] == [*range(1, len(subwords) + 2), -1]
    names = [data.tasks[0].labels[i] for i in train["labels"]["slots"]]
    assert names == ["B-x"] + ["I-x"] * (len(subwords) - 1) + ["B-x", "O"]


def test_a_data_frame_is_as_its_rows_and_missing_values_are_missing_labels(tokenizer):
    frame = pd.DataFrame({"id": range(4), "words": [["a"], ["b", "c"], ["d"], ["e"]], "grade": [1, None, 2, 1]})
    frame["intent"] = ["x", "y", np.nan, "x"]
    tasks = [INTENT, TaskConfig("grade", "sequence_classification", problem_type="single_label_classification")]
    config = DataConfig(train=frame.iloc[::-1], columns={"tokens": "words"})
    assert repr(config) == "DataConfig(train=<4 rows>, columns={'tokens': 'words'})"
    data = prepare_datasets(config, tokenizer, tasks)
    assert [task.labels for task in data.tasks] == [["x", "y"], ["1", "2"]]
    assert [(row["labels"]["intent"], row["labels"]["grade"]) for row in data["train"]] == [
        (0, 0),
        (-100, 1),
        (1, -100),
        (0, 0),
    ]


def test_rows_without_a_split_are_refused(tokenizer):
    frame = pd.DataFrame({"text": ["a"], "intent": ["x"]})
    for rows in (frame, frame.to_dict("records")):
        with pytest.raises(
            ValueError, match=r"data: expected rows by split, such as {'train': rows, .*found (Data|list)"
        ):
            prepare_datasets(rows, tokenizer, [INTENT])


def test_a_text_under_another_name_is_asked_for(tokenizer):
    rows = [{"id": 1, "message": "play jazz", "intent": "x"}]
    with pytest.raises(
        ValueError, match=r"If one of them is the text, name it in `columns`, such as {'text': 'message'}"
    ):
        prepare_datasets({"train": rows}, tokenizer, [INTENT])


def test_truncated_and_dropped_words_are_counted_and_logged(tokenizer, caplog):
    rows = [{"tokens": ["paris"] * 30, "slots": ["O"] * 30}, {"tokens": ["paris", "\u200b"], "slots": ["B-x", "O"]}]
    data = prepare_datasets({"train": rows}, tokenizer, [SLOTS], max_length=12, truncate=True)
    report = data.reports["train"]
    assert (report.rows, report.words, report.truncated_rows, report.lost_words) == (2, 32, 1, 21)
    assert "train: 1 of 2 rows truncated to the maximum length." in caplog.text
    assert "train: 21 of 32 words have no subword: predicted as O, and scored." in caplog.text


def test_a_row_that_just_fits_is_not_cut(tokenizer, caplog):
    rows = [{"tokens": ["paris"] * 10, "slots": ["O"] * 9 + ["B-x"]}]
    for truncate in (False, True):
        report = prepare_datasets({"train": rows}, tokenizer, [SLOTS], max_length=12, truncate=truncate).reports[
            "train"
        ]
        assert (report.truncated_rows, report.windowed_rows) == (0, 0)
    assert not caplog.text


def test_missing_labels_are_allowed_and_counted(tokenizer, caplog):
    rows = [*ROWS, {"text": "no labels at all"}, {"tokens": ["none"], "intent": None, "slots": None}]
    data = prepare_datasets({"train": rows}, tokenizer, [INTENT, SLOTS])
    assert data["train"][22]["labels"] == {"intent": -100, "slots": [-100] * 4}
    assert data["train"][23]["labels"] == {"intent": -100, "slots": [-100]}
    assert "2 of 24 rows have no label for 'intent'" in caplog.text


def test_problem_types_are_read_from_the_data(tokenizer):
    rows = [
        {"text": "one", "many": ["a", "b"], "score": 1.5, "pair": [0.5, 2.0], "number": 3},
        {"text": "two", "many": [], "score": None, "pair": [1.0, 1.0], "number": 10},
        {"text": "three", "many": None, "score": 2, "pair": None, "number": 9},
    ]
    names = ("many", "score", "pair", "number")
    data = prepare_datasets({"train": rows}, tokenizer, [TaskConfig(n, "sequence_classification") for n in names])
    kinds = {task.name: (task.problem_type, task.labels) for task in data.tasks}
    assert kinds == {
        "many": ("multi_label_classification", ["a", "b"]),
        "score": ("regression", None),
        "pair": ("regression", ["0", "1"]),
        "number": ("single_label_classification", ["3", "9", "10"]),
    }
    assert data["train"][0]["labels"] == {"many": [1.0, 1.0], "score": [1.5], "pair": [0.5, 2.0], "number": 0}
    assert data["train"][1]["labels"]["many"] == [0.0, 0.0]
    assert all(value != value for value in data["train"][2]["labels"]["many"])


def test_label_names_of_a_dataset_are_used(tokenizer):
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "intent": datasets.ClassLabel(names=["low", "high"]),
            "slots": datasets.List(datasets.ClassLabel(names=["O", "B-x", "I-x"])),
        }
    )
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "intent": [1], "slots": [[1, 2]]}, features=features)
    data = prepare_datasets({"train": rows}, tokenizer, [INTENT, SLOTS])
    assert data.tasks[0].labels == ["low", "high"]
    assert data["train"][0]["labels"] == {"intent": 1, "slots": [1, 2]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "intent": "x", "slots": ["O"]}, "found 1 tags for 2 tokens"),
        (
            {"tokens": ["a"], "intent": "x", "slots": ["X-y"]},
            r"which does not have 'X-y'; expected 'O', 'B-<type>' or 'I-<type>'",
        ),
        ({"tokens": ["a"], "intent": "x", "slots": "O O"}, "expected one tag per word, found 2 tags for 1 tokens"),
        ({"tokens": [], "intent": "x", "slots": []}, "'tokens' is empty"),
        ({"tokens": "a b", "intent": "x"}, "'tokens' must be a list of strings"),
        ({"tokens": ["a", 3], "intent": "x"}, "'tokens' must be a list of strings"),
        ({"text": " "}, "'text' is empty"),
        ({"text": 7}, "'text' must be a string, found 7"),
        ({"sentence": "a"}, "expected a column 'tokens' or 'text', found 'sentence'"),
        ({"text": "a b", "slots": ["O", "O"]}, "expected spans of 'text', or tags and a column 'tokens', found"),
        ({"tokens": ["a"], "intent": {"a": 1}}, "expected one label"),
        ({"tokens": ["a"], "intent": ["x", "y"]}, "expected one label"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(row, message, tokenizer, write_jsonl):
    path = write_jsonl([*ROWS, row])
    with pytest.raises(ValueError, match=message) as error:
        prepare_datasets({"train": path}, tokenizer, [INTENT, SLOTS])
    assert str(error.value).startswith(f"{path}:23: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', "rows.jsonl:2: expected a JSON object, found "),
        (b'{"text": "a"}\n\n["a"]\n', "rows.jsonl:3: expected a JSON object, found "),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "rows.jsonl:2: expected UTF-8, found the byte 0xff at position 10"),
        (b"", "rows.jsonl: expected at least one row, found none"),
        (b"\n \n", "rows.jsonl: expected at least one row, found none"),
    ],
)
def test_a_bad_file_is_named(content, message, tokenizer, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        prepare_datasets({"train": tmp_path / "rows.jsonl"}, tokenizer, [INTENT])


def test_a_byte_order_mark_and_empty_lines_are_skipped(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a", "intent": "x"}\r\n\r\n{"text": "b", "intent": "y"}')
    assert len(prepare_datasets({"train": path}, tokenizer, [INTENT])["train"]) == 2


def test_a_missing_file_is_named_with_the_closest(tokenizer, write_jsonl):
    path = write_jsonl(ROWS)
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'rows.jsonl'"):
        prepare_datasets({"train": path.with_name("row.jsonl")}, tokenizer, [INTENT])


def test_a_missing_column_is_named_with_the_closest(tokenizer, write_jsonl):
    path = write_jsonl([{"tokens": ["a"], "slot": ["O"]}])
    with pytest.raises(ValueError, match=r"rows.jsonl: task 'slots': unknown column 'slots'. Did you mean 'slot'"):
        prepare_datasets({"train": path}, tokenizer, [SLOTS])


def test_labels_that_do_not_occur_in_train_are_listed(tokenizer, write_jsonl):
    train, test = (
        write_jsonl(ROWS),
        write_jsonl([ROWS[0], {"tokens": ["a", "b"], "intent": "Fly", "slots": ["B-time", "I-time"]}]),
    )
    with pytest.raises(ValueError, match=r"task 'intent' does not know the labels 'Fly' \(1 times\)") as error:
        prepare_datasets({"train": train, "test": test}, tokenizer, [INTENT, SLOTS])
    assert f"{test}:2: task 'slots' does not know the labels 'B-time' (1 times), 'I-time'" in str(error.value)


def test_labels_that_do_not_occur_in_train_are_kept_for_evaluations_on_request_and_counted(tokenizer, caplog):
    rows = [{"tokens": ["a", "b"], "intent": "Fly", "slots": ["B-time", "O"]}]
    data = prepare_datasets({"train": ROWS, "test": rows}, tokenizer, [INTENT, SLOTS], unseen_labels="ignore")
    labels = data["test"][0]["labels"]
    assert labels == {"intent": unseen_id(INTENT, "Fly"), "slots": [unseen_id(SLOTS, "B-time"), 0]}
    assert max(labels["intent"], labels["slots"][0]) < -100
    assert "test: 1 labels of 'slots' that the task does not have" in caplog.text
    assert "no loss counts and no prediction can match: B-time." in caplog.text


def test_a_training_row_has_no_label_that_its_task_does_not_have(tokenizer):
    task = dataclasses.replace(INTENT, labels=["PlayMusic"])
    data = prepare_datasets({"train": ROWS}, tokenizer, [task], unseen_labels="ignore")
    assert {row["intent"] for row in data["train"]["labels"]} == {0, -100}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unseen_labels": "ignored"}, "unknown unseen_labels 'ignored'. Did you mean 'ignore'"),
        ({"label_subwords": "lst"}, "unknown label_subwords 'lst'. Did you mean 'last'"),
        ({"max_lenght": 3}, "unknown option 'max_lenght'. Did you mean 'max_length'"),
    ],
)
def test_unknown_options_are_refused(arguments, message, tokenizer):
    with pytest.raises(ValueError, match=message):
        prepare_datasets({"train": ROWS}, tokenizer, [INTENT], **arguments)


def test_without_train_the_tasks_need_their_labels(tokenizer):
    with pytest.raises(ValueError, match="task 'intent' has no labels and there is no split 'train'"):
        prepare_datasets({"test": ROWS}, tokenizer, [INTENT])


def test_a_missing_split_is_named(data):
    with pytest.raises(KeyError, match="unknown split 'valid'"):
        data["valid"]


@pytest.mark.realdata
def test_all_of_snips_is_read(real_data):
    tokenizer = load_tokenizer("sentence-transformers/all-MiniLM-L6-v2")
    files = {split: real_data / "snips" / f"{split}.jsonl" for split in ("train", "validation", "test")}
    data = prepare_datasets(files, tokenizer, [INTENT, SLOTS])
    assert [len(data[split]) for split in files] == [13084, 700, 700]
    assert len(data.tasks[0].labels) == 7
    assert len(data.tasks[1].labels) == 79
    # One word of train is six replacement characters, which WordPiece drops.
    assert [report.lost_words for report in data.reports.values()] == [1, 0, 0]
    assert not any(report.truncated_rows for report in data.reports.values())
