"""The examples of docs/INFERENCE.md run as they are written."""

import json
from pathlib import Path

import pytest

from hf_multitask import MultiTaskModel, TaskConfig
from tests.documents.blocks import claim, run_commands, run_python

PAGE = "docs/INFERENCE.md"
PIPELINE = claim(PAGE, "python", "requests.txt")
FILES = claim(PAGE, "bash", "--keep id")
EXPORT = claim(PAGE, "bash", "hf-multitask export")
EDITED_TASKS = claim(PAGE, "python", "export_task(")


def test_the_pipeline_example(save_model, capsys):
    save_model("out/intents")
    Path("requests.txt").write_text("play jazz\nrain in rome\n", encoding="utf-8")
    run_python(PIPELINE)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_example_of_a_stock_model_and_new_heads(save_model):
    save_model("out/model")
    names = {"model": MultiTaskModel.from_pretrained("out/model"), "TaskConfig": TaskConfig}
    run_python(EDITED_TASKS, names)
    assert [task.name for task in names["model"].config.tasks] == ["places", "mood"]
    assert Path("out/slots/config.json").is_file()
    assert Path("out/encoder/modules.json").is_file()


@pytest.mark.slow
def test_the_commands_that_predict_a_file(save_model, write_jsonl):
    save_model("out/snips")
    rows = [{"id": i, "text": f"play song {i}"} for i in range(5)]
    write_jsonl([*rows, {"id": 5}], Path("requests.jsonl"))
    # The second command would find the output of the first.
    run_commands(FILES, {"predictions.jsonl\n": "again.jsonl --on-error skip\n"})
    found, again = (
        [json.loads(line) for line in Path(name).read_text().splitlines()]
        for name in ("predictions.jsonl", "again.jsonl")
    )
    assert [row.pop("id") for row in found] == [row["id"] for row in rows]
    assert len(again) == len(found)


@pytest.mark.slow
def test_the_export_command(save_model, capsys):
    save_model("out/snips")
    run_commands(EXPORT)
    assert Path("out/snips/onnx/model_int8.onnx").is_file()
    assert "intent_accuracy" in capsys.readouterr().out
