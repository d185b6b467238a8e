"""Benchmarks of time and memory write the results that they promise. The times are not checked."""

import sys

import pytest
from transformers import TrainerCallback

from hf_multitask.data.batches.mixing import STRATEGIES
from hf_multitask.freezing.compilation import GRAPHS_PER_STAGE
from tests.scripts.splits import SCRIPTS
from tests.tiny import ROWS


class TrainableParametersCallback(TrainerCallback):
    """Callback that records the trainable parameters of each epoch."""

    def __init__(self):
        self.by_epoch = []

    def on_step_end(self, args, state, control, model, **kwargs):
        names = {name.replace(".classifier", "") for name, weight in model.named_parameters() if weight.requires_grad}
        epoch = (state.global_step - 1) * state.num_train_epochs // state.max_steps
        if len(self.by_epoch) == epoch:
            self.by_epoch.append(names)
        assert self.by_epoch[epoch] == names


@pytest.fixture
def workload(monkeypatch, encoder):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.workload import make_workload

    return make_workload(str(encoder), ROWS, batch_size=8)


@pytest.mark.slow
def test_accelerator_counts_operations_and_compares_with_stock(run, capsys):
    sizes = ("--shapes", "2x16", "--length", 8, "--steps", 2, "--texts", 6, "--batch-size", 4, "--workers", 0)
    result = run("accelerator", *sizes, "--repeats", 1, "--matrix-size", 64)
    assert result["benchmark"] == "accelerator"
    assert result["limit_tflops"] > 0
    (shape,) = result["shapes"]
    assert (shape["layers"], shape["hidden_size"]) == (2, 16)
    # A layer of hidden size h has 12 h^2 weights in matrices and 13 h other ones; the heads are one matrix each.
    weights = 2 * (12 * 16**2 + 13 * 16) + (16 + 1) * (7 + 73)
    assert shape["operations_per_token"] == 2 * weights + 4 * 2 * 16 * 8
    precisions = ["fp32", "bf16"]
    names = [(line["name"], line["precision"]) for line in shape["training"]]
    frozen = ["ours, top half", "ours, top half, cached", "ours, heads", "ours, heads, cached"]
    assert names == [
        *(("two Trainers", precision) for precision in precisions),
        *(("ours", precision) for precision in precisions),
        ("bare loop", "bf16"),
        *((name, "bf16") for name in frozen),
    ]
    for line in shape["training"]:
        operations = line["rows_per_second"] * 3 * shape["operations_per_token"] * 8
        assert line["share_of_limit"] == pytest.approx(operations / result["limit_tflops"] / 1e12)
        assert line["runs_all_layers"] == (line["name"] in ("ours", "bare loop"))
    predictions = [(line["name"], line["precision"]) for line in shape["predictions"]]
    assert predictions == [
        (name, precision) for name in ("two pipelines", "ours", "model alone") for precision in precisions
    ]
    output = capsys.readouterr().out
    assert "2 layers of width 16" in output
    assert "| Training, 4 rows of 8 tokens per step | precision |" in output
    assert "| ours, heads, cached | bf16 |" in output


@pytest.mark.slow
def test_data_compares_the_cost_of_rows(run, encoder, capsys):
    result = run("data", "--encoder", encoder, "--rows", 200, "--repeats", 1, "--sizes", 200)
    assert (result["benchmark"], result["rows"], result["repeats"]) == ("data", 200, 1)
    assert 7 < result["words"] / result["rows"] < 11
    assert list(result["alignment"]) == ["tokenizer", "aligner", "prepare", "prepare_from_cache"]
    assert list(result["mixing"]) == ["one_data_set", *STRATEGIES]
    for line in (*result["alignment"].values(), *result["mixing"].values()):
        assert list(line) == ["seconds", "ratio", "cpu_ratio", "runs"]
        assert len(line["runs"]) == 1
    assert result["alignment"]["tokenizer"]["ratio"] == result["mixing"]["one_data_set"]["ratio"] == 1
    (stream,) = result["streaming"]
    assert stream["rows"] == 200
    assert stream["rows_per_second"] > 0
    assert stream["peak_mib"] >= stream["start_mib"] > 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*result["alignment"], *result["mixing"], "Streaming"))


@pytest.mark.slow
def test_sharing_compares_each_method_with_a_plain_run(run, encoder, capsys):
    result = run("sharing", "--encoder", encoder, "--batch-size", 4, "--steps", 5, "--repeats", 1)
    names = ["uncertainty", "dwa", "famo", "random", "equal_norm"]
    names += [f"{{torchjd: {name}}}" for name in ("UPGrad", "PCGrad", "MGDA", "CAGrad")]
    expected = ["neither", "conflict_steps: 5", *(f"loss_balancing: {name}" for name in names), "private_layers: 2"]
    assert list(result["training"]) == expected
    assert "conflict_steps: 50 costs" in capsys.readouterr().out


def test_sharing_compares_methods_where_no_row_has_both_labels(run, encoder):
    method = "loss_balancing: {torchjd: UPGrad}"
    result = run(
        "sharing", "--encoder", encoder, "--batch-size", 4, "--steps", 2, "--repeats", 1, "--apart", "--only", method
    )
    assert list(result["training"]) == ["neither", method]
    assert result["apart"]


def test_packing_compares_kinds_of_batches(run, encoder, datasets_folder, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--batch-size", 4, "--steps", 2, "--repeats", 1)
    result = run("packing", *options)
    assert list(result["training"]) == ["mixed", "mixed, packing", "by_length", "by_length, packing"]
    assert "2 steps of 4 rows" in capsys.readouterr().out


def test_abstention_compares_each_method_with_a_plain_pass(run, encoder, capsys):
    result = run("abstention", "--encoder", encoder, "--rows", 8, "--batch-size", 4, "--repeats", 1)
    methods = ["energy", "max_softmax", "mahalanobis", "knn"]
    assert list(result["predictions"]) == ["no abstention", *methods]
    assert list(result["costs"]) == methods
    assert "knn costs" in capsys.readouterr().out


def test_compile_compares_steps_and_counts_graphs(run, encoder, capsys):
    result = run("compile", "--encoder", encoder, "--backend", "eager", "--batch-size", 4, "--repeats", 1)
    assert (result["benchmark"], result["stages"]) == ("compile", 3)
    assert list(result["training"]) == ["eager", "compiled"]
    assert 3 <= result["graphs"] <= 3 * GRAPHS_PER_STAGE
    assert "graphs compiled for 3 stages" in capsys.readouterr().out


def test_growth_measures_each_size(run, monkeypatch, capsys):
    from benchmarks import growth

    monkeypatch.setattr(growth, "SIZES", (growth.Size(8, 6, 2), growth.Size(16, 6, 2)))
    sizes = run("growth", "--repeats", 1)["sizes"]
    assert [(size["rows"], size["length"], size["layers"]) for size in sizes] == [(8, 6, 2), (16, 6, 2)]
    assert [size["store_mib"] for size in sizes] == [rows * 6 * growth.HIDDEN_SIZE * 4 / 2**20 for rows in (8, 16)]
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.slow
def test_inference_compares_pipelines_and_memory(run, encoder, capsys):
    options = ("--encoder", encoder, "--rows", 9, "--batch-size", 4, "--single-texts", 2)
    result = run("inference", *options, "--repeats", 2, "--sizes", 20, 40)
    runs = ("two_pipelines", "ours", "ours_bf16", "ours_onnx_int8", "bare_forward")
    assert {name: len(times) for name, times in result["seconds"].items()} == dict.fromkeys(runs, 2)
    assert result["peak_mib"].keys() == {"20", "40"}
    names = ["ours", "ours_bf16", "ours_onnx_int8", "ours (limit)", "latency", "import, seconds", "memory, 40 rows"]
    assert [line["name"] for line in result["comparisons"]] == names
    assert "memory, 40 rows" in capsys.readouterr().out


@pytest.mark.slow
def test_serving_compares_the_server_with_the_pipeline_and_loses_nothing(run, encoder, capsys):
    options = ("--encoder", encoder, "--rows", 9, "--batch-size", 4, "--clients", 4, "--repeats", 1)
    result = run("serving", *options, "--long-run", 100, "--malformed", 200)
    assert result["speed"].keys() == {"torch", "onnx-int8"}
    assert all(min(part["ratios"].values()) > 0 for part in result["speed"].values())
    assert result["memory"]["requests"] == 100
    assert len(result["memory"]["mib"]) == 20
    assert (result["malformed"]["refused"], result["malformed"]["broken"]) == (200, 0)
    assert result["kill"]["statuses"].keys() == {"200"}
    assert result["kill"]["restarted"]
    assert "p99 / median" in capsys.readouterr().out


@pytest.mark.slow
def test_speed_compares_training_with_plain_trainers_and_a_bare_loop(run, encoder, write_jsonl, tmp_path, capsys):
    write_jsonl(ROWS, tmp_path / "train.jsonl")
    names = ["joint", "heads", "joint_limit", "losses"]
    options = ("--encoder", encoder, "--data", tmp_path, "--rows", 30, "--batch-size", 8, "--threads", 1)
    result = run("speed", *options, "--repeats", 2, "--only", *names, "tasknet")
    assert (result["benchmark"], result["rows"], result["left_out"]) == ("speed", 30, ["tasknet"])
    assert {"cores", "processor", "torch", "avx512_bf16", "amx_tile"} <= result["machine"].keys()
    assert {name: list(runs) for name, runs in result["runs"].items()} == {
        "joint": ["single_task_trainers", "ours", "bare_loop"],
        "heads": ["joint_module", "ours"],
    }
    lines = {line["name"]: line for line in result["comparisons"]}
    assert list(lines) == names
    losses = lines.pop("losses")
    assert losses["passed"]
    assert list(losses["by_schedule"]) == ["heads", "gradual"]
    for line in lines.values():
        assert len(line["ratios"]) == 2
        assert line["passed"] == (line["ratio"] >= line["bar"])
    # Every epoch of the plain trainer costs the same: 2 of 10 are run, and the table shows it.
    assert [lines[name]["scaled"] for name in lines] == [False, True, False]
    plain = result["runs"]["heads"]["joint_module"]
    assert (plain["epochs"], plain["measured_epochs"]) == (10, 2)
    assert plain["examples_per_second"] == pytest.approx(300 / plain["seconds"])
    printed = capsys.readouterr().out
    assert "2 epochs measured, scaled to 10" in printed
    assert "tasknet: left out" in printed


def test_speed_compares_with_tasknet_in_its_own_environment(run, encoder, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
import json, sys
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
rows = [json.loads(line) for line in open(options["--rows"])]
assert sys.argv[1].endswith("tasknet_program.py") and len(rows) == 9 and options["--epochs"] == "1"
print("a line that a library prints")
print(json.dumps({"seconds": 18.0, "versions": {"torch": "2.13.0"}}))
""")
    python = tmp_path / "python"
    # The path of this Python may contain a space, which is not allowed in the first line of a script.
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    python.chmod(0o755)
    options = ("--encoder", encoder, "--rows", 9, "--threads", 1, "--repeats", 1, "--tasknet-python", python)
    result = run("speed", *options, "--only", "tasknet")
    assert (result["tasknet"], result["left_out"]) == ({"torch": "2.13.0"}, [])
    assert result["runs"]["joint"]["tasknet"]["examples_per_second"] == 0.5
    (line,) = result["comparisons"]
    assert line["ratio"] == 18.0 / result["runs"]["joint"]["ours"]["seconds"]


@pytest.mark.slow
def test_speed_compares_the_memory_of_more_rows(run, encoder, capsys):
    result = run("speed", "--encoder", encoder, "--rows", 9, "--threads", 1, "--only", "memory")
    (line,) = result["comparisons"]
    assert line["rows"] == [9, 90]
    assert all(100 < peak < 10_000 for peak in line["peak_mib"])
    assert line["ratio"] == line["peak_mib"][1] / line["peak_mib"][0]
    assert "<= 1.1" in capsys.readouterr().out


def trainable_by_epoch(trainer):
    """Train and return the names of the trainable parameters of each epoch."""
    callback = TrainableParametersCallback()
    trainer.add_callback(callback)
    trainer.train()
    return callback.by_epoch


def test_the_plain_trainer_unfreezes_the_same_layers_as_ours(workload, tmp_path):
    from benchmarks.our_trainer import build_trainer, gradual_schedule
    from benchmarks.plain_trainers import JointModuleTrainer

    epochs = workload.num_layers + 2
    ours = build_trainer(workload, str(tmp_path), epochs, gradual_schedule(workload.num_layers, epochs))
    plain = JointModuleTrainer(workload).build(str(tmp_path), epochs, trained_layers=None)
    trainable = [trainable_by_epoch(trainer) for trainer in (ours, plain)]
    assert trainable[0] == trainable[1]
    assert len(trainable[0]) == epochs
    assert trainable[0][0] == {f"heads.{task}.{part}" for task in ("intent", "slots") for part in ("weight", "bias")}


@pytest.mark.parametrize("count", [0, 1])
def test_the_plain_trainer_freezes_the_same_layers_as_ours(workload, tmp_path, count):
    from benchmarks.our_trainer import build_trainer
    from benchmarks.plain_trainers import JointModuleTrainer

    ours = build_trainer(workload, str(tmp_path), 1, f"top:{count}" if count else "encoder")
    plain = JointModuleTrainer(workload).build(str(tmp_path), 1, trained_layers=count)
    trainable = [trainable_by_epoch(trainer) for trainer in (ours, plain)]
    assert trainable[0] == trainable[1]
