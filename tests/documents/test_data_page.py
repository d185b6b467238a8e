"""The examples of docs/DATA.md run as they are written."""

import pytest
import yaml

import hf_multitask
from hf_multitask import DataConfig, MultiTaskTrainingArguments, Sampling, TaskConfig, prepare_datasets
from hf_multitask.data.preparation import load_datasets
from tests.documents.blocks import claim, run_python
from tests.documents.files import write_conll, write_csv
from tests.tiny import ROWS

PAGE = "docs/DATA.md"
ONE = claim(PAGE, "yaml", "tag_scheme: IOB1")
FOLDS = claim(PAGE, "yaml", "folds: 5\n")
FORMS = claim(PAGE, "yaml", 'delimiter: ";"')
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


FORM_FILES = {
    "european.csv": "text;intent\nschöne Grüße, bis bald;bye\nna;hi\n".encode("cp1252"),
    "quotes.csv": b'text,intent\n"so,bye\nit is,hi\n',
    "no_header.csv": b"so,bye\nit is,hi\n",
    "joined.csv": b"text,intent\nso,bye|hi\nit is,hi\n",
    "gaps.csv": b"text,intent\nso,nan\nwell,bye\nit is,hi\n",
    "types.conll": b"Mira PER\nruns OTHER\n",
    "white_space.conll": b"Mira\tB-PER\nruns  O\n",
    "words.jsonl": b'{"tokens": ["Mira", "runs"], "ner": [[0, 1, "PER"]]}\n',
}


@pytest.mark.parametrize("options", yaml.safe_load(FORMS.text)["data"], ids=lambda options: options["train"])
def test_each_option_for_the_form_of_a_file(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / options["train"]).write_bytes(FORM_FILES[options["train"]])
    task = TASKS[1] if options["train"].endswith(".csv") else TASKS[0]
    (loader,), (task,) = load_datasets([DataConfig(**options)], [task])
    loader.encode(loader.splits["train"], [task])
    labels = [row[task.name] for row in loader.splits["train"].labels]
    assert task.labels == (["bye", "hi"] if task.name == "intent" else ["O", "B-PER", "I-PER"])
    expected = {"joined.csv": [[1.0, 1.0], [0.0, 1.0]], "gaps.csv": [-100, 0, 1]}
    assert labels == expected.get(options["train"], [0, 1] if task.name == "intent" else [[1, 0]])


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
