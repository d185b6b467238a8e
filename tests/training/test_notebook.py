"""A run in a notebook shows the lines of a terminal: no tables of transformers, no mappings, no warnings."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.tiny import ROWS

CELLS = [
    """
from hf_multitask import RunConfig, run_training
config = RunConfig.from_dict({config})
""",
    "metrics = run_training(config)",
    "sorted(metrics)",
]


@pytest.mark.slow
def test_a_run_in_a_notebook(encoder, write_jsonl, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {name: str(write_jsonl(ROWS)) for name in ("train", "validation")},
        "freeze": "heads-then-all",
        "training": {"num_train_epochs": 3, "per_device_train_batch_size": 4},
        "output_dir": str(tmp_path / "out"),
    }
    sources = [cell.replace("{config}", json.dumps(values)) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    training, result = notebook.cells[1].outputs, notebook.cells[2].outputs
    assert "['validation']" in result[0]["data"]["text/plain"]
    streams = {
        name: "".join(part.text for part in training if part.get("name") == name) for name in ("stdout", "stderr")
    }
    assert {part.output_type for part in training} == {"stream"}, "no table of transformers"
    lines = [line for line in streams["stdout"].splitlines() if line.strip()]
    assert len([line for line in lines if re.match(r"Step \d+, epoch \d: loss intent ", line)]) == 3
    assert (
        len([line for line in lines if re.match(r"Step \d+: stage 'all' starts .*: everything trains\.", line)]) == 1
    )
    # Only bars are drawn there, and each is cleared.
    drawn = [line for line in re.split(r"[\r\n]+", streams["stderr"]) if line.strip()]
    assert all(re.match(r"(Training|Evaluating|Aligning \w+):|\[transformers\] mtime", line) for line in drawn), drawn
    assert "\x1b[A" not in streams["stderr"], "no bar in another"
    assert "{'" not in "".join(streams.values())
