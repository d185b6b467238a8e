"""The examples of docs/DATA.md run as they are written."""

import pytest
import yaml

import hf_multitask
from hf_multitask import DataConfig, MultiTaskTrainingArguments, Sampling, TaskConfig, prepare_datasets
from tests.documents.blocks import claim, run_python
from tests.documents.files import write_conll, write_csv
from tests.tiny import ROWS

PAGE = "docs/DATA.md"
ONE = claim(PAGE, "yaml", "tag_scheme: IOB1")
FOLDS = claim(PAGE, "yaml", "folds: 5\n")
BATCHES = claim(PAGE, "yaml", "max_tokens_per_batch")
SEVERAL = claim(PAGE, "yaml", "strategy: temperature")
IN_PYTHON = claim(PAGE, "python", "prepare_datasets(")
TASKS = [TaskConfig("ner", "token_classification"), TaskConfig("intent", "sequence_classification")]
SPLITS = {"train": ROWS, "valid": ROWS[:8], "test": ROWS[8:]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, rows in SPLITS.items():
        write_csv(rows, tmp_path / f"{split}.csv")
    return tmp_path


def write_tags(folder, columns_between):
    for split, rows in SPLITS.items():
        write_conll(rows, folder / f"{split}.conll", columns_between)


def test_one_data_set(folder, tokenizer):
    write_tags(folder, columns_between=2)
    data = prepare_datasets(DataConfig(**yaml.safe_load(ONE.text)["data"]), tokenizer, TASKS[:1])
    assert {split: len(data[split]) for split in data.splits} == {"train": 22, "validation": 8, "test": 14}


def test_folds(folder, tokenizer, write_jsonl):
    rows = [{**row, "ner": row["slots"], "document": i // 2} for i, row in enumerate(ROWS)]
    write_jsonl(rows, folder / "rows.jsonl")
    data = prepare_datasets(DataConfig(**yaml.safe_load(FOLDS.text)["data"]), tokenizer, TASKS)
    assert sorted(len(data.fold(number)["validation"]) for number in range(5)) == [4, 4, 4, 4, 6]


def test_batches_by_tokens(tmp_path):
    values = yaml.safe_load(BATCHES.text)["training"]
    assert MultiTaskTrainingArguments(output_dir=str(tmp_path), **values).max_tokens_per_batch == 4096


def test_several_data_sets(folder, tokenizer):
    write_tags(folder, columns_between=2)
    values = yaml.safe_load(SEVERAL.text)
    data = prepare_datasets([DataConfig(**data_set) for data_set in values["data"]], tokenizer, TASKS)
    assert (len(data["train"]), len(data["validation"])) == (44, 16)
    assert Sampling(**values["sampling"]) == Sampling("temperature", 2.0)


def test_several_data_sets_in_python(folder, encoder, tokenizer):
    write_tags(folder, columns_between=0)
    args = MultiTaskTrainingArguments(output_dir="out", max_steps=2, report_to="none", save_strategy="no")
    names = {name: getattr(hf_multitask, name) for name in hf_multitask.__all__}
    names = run_python(IN_PYTHON, names | {"encoder": encoder, "tokenizer": tokenizer, "tasks": TASKS, "args": args})
    names["trainer"].train()
    assert names["trainer"].state.global_step == 2
