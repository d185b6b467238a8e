"""Values logged to TensorBoard, read from its event files."""

import json
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from hf_multitask import RunConfig, run_training
from tests.tiny import ROWS


@pytest.fixture(scope="module")
def values(encoder, write_jsonl):
    return {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(ROWS[:9]))},
        "training": {
            "num_train_epochs": 2,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 4,
            "logging_steps": 2,
            "report_to": "tensorboard",
        },
        "freeze": {"stages": [{"name": "heads", "train": "heads", "epochs": 1}, {"train": "all"}]},
    }


def read_events(folder):
    """Return the contents of all event files of a run."""
    (logs,) = (folder / "runs").iterdir()
    events = EventAccumulator(str(logs), size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    events.Reload()
    return events


def texts(events, tag):
    return [
        (event.step, make_ndarray(event.tensor_proto)[0].decode()) for event in events.Tensors(f"{tag}/text_summary")
    ]


@pytest.fixture(scope="module")
def tracked(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    return folder, run_training(RunConfig.from_dict({**values, "output_dir": str(folder)})), read_events(folder)


def test_curves_by_task_match_the_log_history(tracked):
    folder, _, events = tracked
    history = json.loads((folder / "history.json").read_text())["history"]
    for key, tag in (("slots_loss", "train/slots_loss"), ("eval_intent_accuracy", "eval/intent_accuracy")):
        recorded = [(entry["step"], pytest.approx(entry[key])) for entry in history if key in entry]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == recorded


def test_changes_of_stage_are_logged(tracked):
    folder, _, events = tracked
    stages = json.loads((folder / "stages.json").read_text())["stages"]
    assert [(event.step, event.value) for event in events.Scalars("freeze/trainable_parameters")] == [
        (stage["start_step"], stage["trainable_parameters"]) for stage in stages
    ]
    logged = texts(events, "freeze/stage")
    assert [step for step, _ in logged] == [stage["start_step"] for stage in stages]
    assert logged[0][1].startswith("heads (the run starts)")


def test_metrics_by_class_and_figures_are_logged(tracked):
    _, metrics, events = tracked
    ((step, table),) = texts(events, "validation_by_class/intent")
    assert step == 12
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    f1 = [float(row[3]) for row in rows]
    assert sum(f1) / len(f1) == pytest.approx(metrics["validation"]["intent_macro_f1"], abs=1e-4)
    assert {"report/curves", "report/validation_intent", "report/validation_slots"} == set(events.Tags()["images"])
    (image,) = events.Images("report/curves")
    assert image.width > 1000
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_a_resumed_run_logs_only_new_stages(values, tracked, tmp_path):
    folder, _, _ = tracked
    first = min(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.copytree(first, tmp_path / first.name)
    run_training(RunConfig.from_dict({**values, "output_dir": str(tmp_path)}), resume=True)
    assert [step for step, _ in texts(read_events(tmp_path), "freeze/stage")] == [6]


def test_a_baseline_is_tracked_in_its_own_folder(values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_training(RunConfig.from_dict({**values, "freeze": "all", "output_dir": str(tmp_path / "out")}))
    assert not (tmp_path / "runs").exists()
    assert texts(read_events(tmp_path / "out"), "validation_by_class/slots")
