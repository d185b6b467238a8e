"""Benchmarks run and write the results that they promise. Their times are not checked."""

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml
from transformers import TrainerCallback, pipeline

from hf_multitask.data.batches.mixing import STRATEGIES
from hf_multitask.freezing.compilation import GRAPHS_PER_STAGE
from hf_multitask.models.tags_iob2 import tag_spans
from tests.tiny import METRIC_NAMES, ROWS, without_calibration

SCRIPTS = Path(__file__).parents[2] / "scripts"
SPLITS = {"train": ROWS, "validation": ROWS[:9], "test": ROWS[9:]}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function that runs a benchmark and returns its JSON results."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import benchmark

    def run_benchmark(*arguments):
        path = tmp_path / "result.json"
        assert benchmark.main([*map(str, arguments), "--output", str(path)]) == 0
        return json.loads(path.read_text(encoding="utf-8"))

    return run_benchmark


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


@pytest.fixture
def datasets_folder(tmp_path, write_jsonl):
    """Return a folder with few rows in the place of each dataset."""
    for folder in ("snips", "clinc150", "wnut17"):
        (tmp_path / folder).mkdir()
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / "snips" / f"{split}.jsonl")
        texts = [f'"{" ".join(row["tokens"])}",{row["intent"].lower()}' for row in rows]
        (tmp_path / "clinc150" / f"{split}.csv").write_text("\n".join(["text,intent", *texts]), encoding="utf-8")
        words = ["\n".join(map("\t".join, zip(row["tokens"], row["slots"], strict=True))) for row in rows]
        (tmp_path / "wnut17" / f"{split}.conll").write_text("\n\n".join(words), encoding="utf-8")
    return tmp_path


def test_defaults_trains_texts_with_several_intents(run, encoder, datasets_folder, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--seeds", 0, "--efforts", "quick")
    result = run("defaults", *options, "--datasets", "snips-several")
    assert result["runs"][0]["test"]["intent_micro_f1"] > 0
    assert "snips-several  quick    " in capsys.readouterr().out


def test_joined_texts_have_the_words_tags_and_intents_of_their_parts(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.intents_and_slots import join_texts

    rows = [
        {"tokens": ["play", "jazz"], "slots": ["O", "B-genre"], "intent": "play"},
        {"tokens": ["rain", "tomorrow"], "slots": ["O", "B-time"], "intent": "weather"},
        {"tokens": ["book", "it"], "slots": ["O", "O"], "intent": "book"},
    ]
    joined = join_texts(rows, 50)
    by_intent = {row["intent"]: row for row in rows}
    assert {len(row["intent"]) for row in joined} == {1, 2, 3}
    for row in joined:
        parts = [by_intent[intent] for intent in row["intent"]]
        assert " ".join(row["tokens"]) == " and ".join(" ".join(part["tokens"]) for part in parts)
        assert " ".join(row["slots"]) == " O ".join(" ".join(part["slots"]) for part in parts)
    assert joined == join_texts(rows, 50)


def test_packing_compares_kinds_of_batches(run, encoder, datasets_folder, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--batch-size", 4, "--steps", 2, "--repeats", 1)
    result = run("packing", *options)
    assert list(result["training"]) == ["mixed", "mixed, packing", "by_length", "by_length, packing"]
    assert "2 steps of 4 rows" in capsys.readouterr().out


def test_sharing_scores_compares_methods(run, encoder, datasets_folder, capsys):
    methods = ("none", "random", "UPGrad", "private_layers: 2")
    options = ("--data", datasets_folder, "--encoder", encoder, "--epochs", 1, "--seeds", 1, "--methods", *methods)
    options += ("--rows", len(ROWS) // 2)
    result = run("sharing-scores", *options, "--datasets", "snips-400", "snips-apart", "wnut17-clinc150")
    assert [run["method"] for run in result["runs"]] == [*methods] * 3
    # Each method trains another model.
    assert len({run["validation"]["loss"] for run in result["runs"]}) == 12
    printed = capsys.readouterr().out
    assert "wnut17-clinc150        private_layers: 2   ner_f1" in printed
    assert "snips-400              none                intent_accuracy" in printed


def test_sharing_scores_compares_heads_with_chosen_settings(run, encoder, datasets_folder):
    options = ("--data", datasets_folder, "--encoder", encoder, "--epochs", 1, "--seeds", 1)
    methods = ("none", "lstm", "mix_layers", "lstm+mix_layers")
    result = run("sharing-scores", *options, "--datasets", "wnut17-clinc150-chosen", "--methods", *methods)
    assert len({run["validation"]["loss"] for run in result["runs"]}) == len(methods)
    assert all(0 <= run["tagged_texts"] <= 1 for run in result["runs"])


def test_lora_compares_adapters_with_the_weights_themselves(run, encoder, datasets_folder, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--datasets", "snips", "--rows", 8, "--seeds", 1)
    result = run("lora", *options, "--methods", "everything", "lora", "--forgetting")
    runs = {run["method"]: run for run in result["runs"]}
    assert list(runs) == ["untrained", "everything", "lora"]
    # The encoder is so small that adapters are larger.
    assert runs["everything"]["mib"] < runs["lora"]["mib"]
    assert all(0 <= run["clinc150_accuracy"] <= 1 for run in runs.values())
    assert "| snips | intent_accuracy | slots_f1 | joint_accuracy | clinc150_accuracy |" in capsys.readouterr().out


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


def test_mix_compares_tasks_mixed_and_separately(run, encoder, write_jsonl, tmp_path, capsys):
    files = {split: str(write_jsonl(rows)) for split, rows in SPLITS.items()}
    config = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": [{"tasks": [task], **files} for task in ("intent", "slots")],
        "training": {"num_train_epochs": 1, "use_cpu": True},
        "output_dir": str(tmp_path / "out"),
    }
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    result = run("mix", path, "--seeds", 0, 1)
    assert (result["benchmark"], result["config"]) == ("mix", str(path))
    mixed, separate = ["intent", "slots"], [["intent"], ["slots"]]
    assert [(each["seed"], each["tasks"]) for each in result["runs"]] == [
        (seed, tasks) for seed in (0, 1) for tasks in (mixed, *separate)
    ]
    assert all({"minutes", "validation", "test"} <= each.keys() for each in result["runs"])
    assert "intent + slots" in capsys.readouterr().out


def test_scores_trains_each_variant_with_each_seed(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    variants = ("plain", "lstm+crf+mix_layers+ema+layer_lr_decay+all_subwords")
    options = ("--data", tmp_path, "--encoder", encoder, "--epochs", 1, "--seeds", 3, "--train-rows", 9)
    result = run("scores", *options, "--variants", *variants)
    assert (result["benchmark"], result["train_rows"]) == ("scores", 9)
    assert [(each["variant"], each["seed"]) for each in result["runs"]] == [(name, 3) for name in variants]
    for each in result["runs"]:
        assert without_calibration(each["test"]) == METRIC_NAMES
        assert without_calibration(each["validation"]) == METRIC_NAMES
        mistakes = each["slot_mistakes"]
        gold = sum(tag.startswith("B-") for row in SPLITS["test"] for tag in row["slots"])
        assert mistakes["seen"] + mistakes["unseen"] == gold
        wrong = mistakes["seen_wrong"] + mistakes["unseen_wrong"]
        assert wrong == mistakes["wrong_type"] + mistakes["wrong_boundaries"] + mistakes["missed"]
        assert wrong == pytest.approx(gold * (1 - each["test"]["slots_recall"]))
    printed = capsys.readouterr().out
    assert "9 training rows" in printed
    assert all(printed.count(f"\n{name} ") == 3 for name in variants)


def test_wrong_slots_are_counted_by_kind_and_by_occurrence_in_training(monkeypatch, model, tokenizer, tmp_path):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.slot_mistakes import slot_mistakes

    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    predict = pipeline("multi-task", model=str(tmp_path), tasks=["slots"], word_labels=True)
    rows = [{"tokens": row["tokens"], "slots": predict(row)["slots"]["labels"]} for row in ROWS]
    slots = sum(len(tag_spans(row["slots"])) for row in rows)
    kinds = dict.fromkeys(("wrong_type", "wrong_boundaries", "missed", "spurious"), 0)
    no_mistakes = {**kinds, "seen": 0, "seen_wrong": 0, "unseen": slots, "unseen_wrong": 0}
    assert slots > 0
    assert slot_mistakes(tmp_path, [], rows) == no_mistakes
    assert slot_mistakes(tmp_path, rows, rows) == {**no_mistakes, "seen": slots, "unseen": 0}
    # Without gold slots, all predicted slots are spurious. No slot with other words occurs in training.
    unlabeled = [{**row, "slots": ["O"] * len(row["tokens"])} for row in rows]
    assert slot_mistakes(tmp_path, rows, unlabeled) == {**no_mistakes, "spurious": slots, "unseen": 0}
    other_words = [{**row, "tokens": [f"{token}s" for token in row["tokens"]]} for row in rows]
    assert slot_mistakes(tmp_path, other_words, rows) == no_mistakes


def test_an_unknown_variant_is_refused(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("scores", "--data", tmp_path, "--variants", "lstm+crff")
    assert "unknown variant 'crff'; allowed: constrained, plain, crf" in capsys.readouterr().err


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


def test_few_rows_are_compared_with_setfit_in_its_own_environment(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in (("train", ROWS), ("test", ROWS[9:])):
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    program = tmp_path / "program.py"
    program.write_text("""
import json, pathlib, sys
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
folder = pathlib.Path(options["--folder"])
train, test = ([json.loads(line) for line in open(folder / f"{split}.jsonl")] for split in ("train", "test"))
assert sys.argv[1].endswith("setfit_program.py") and len(train) == 8 and len(test) == 13, sys.argv
assert options["--num-iterations"] == "5" and all(row.keys() == {"text", "intent"} for row in train)
print(json.dumps({"accuracy": 0.5, "seconds": 3.0, "steps": 4, "versions": {"setfit": "1.1.3"}}))
""")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    python.chmod(0o755)
    options = ("--data", tmp_path, "--encoder", encoder, "--rows", 8, "--seeds", 0)
    result = run("few-rows", *options, "--setfit-python", python, "--num-iterations", 5)
    assert (result["benchmark"], result["rows"], result["test_rows"]) == ("few-rows", 8, 13)
    methods = ["heads", "chosen", "top:2", "heads-then-all", "plain", "contrastive", "contrastive-all", "setfit"]
    assert [one["method"] for one in result["runs"]] == methods
    assert result["runs"][0]["steps"] == 40
    assert all(0 <= one["accuracy"] <= 1 and one["seconds"] > 0 for one in result["runs"])
    assert "| setfit | 50.00 ± 0.00 | 50.00 | 3 |" in capsys.readouterr().out


def test_few_rows_are_drawn_evenly(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.few_rows import draw_evenly

    rows = [{"text": f"{i}", "intent": "abc"[i % 3]} for i in range(30)]
    drawn = draw_evenly(rows, 10, seed=0)
    counts = [[row["intent"] for row in drawn].count(intent) for intent in "abc"]
    assert sorted(counts) == [3, 3, 4]
    assert len({row["text"] for row in drawn}) == 10
    assert drawn == draw_evenly(rows, 10, seed=0)
    assert drawn != draw_evenly(rows, 10, seed=1)
    with pytest.raises(ValueError, match="intent 'a': expected at least 11 rows, found 10"):
        draw_evenly(rows, 33, seed=0)


@pytest.mark.slow
def test_speed_compares_the_memory_of_more_rows(run, encoder, capsys):
    result = run("speed", "--encoder", encoder, "--rows", 9, "--threads", 1, "--only", "memory")
    (line,) = result["comparisons"]
    assert line["rows"] == [9, 90]
    assert all(100 < peak < 10_000 for peak in line["peak_mib"])
    assert line["ratio"] == line["peak_mib"][1] / line["peak_mib"][0]
    assert "<= 1.1" in capsys.readouterr().out


@pytest.mark.slow
def test_tune_compares_the_winner_with_the_config(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    options = ("--data", tmp_path, "--encoder", encoder, "--rows", 9, "--trials", 2, "--seeds", 1)
    result = run("tune", *options)
    assert (result["benchmark"], result["trials"]) == ("tune", 2)
    assert result["winner"]["test"].keys() == {"42"}
    assert result["config"][0].keys() == result["winner"]["test"]["42"].keys()
    assert "joint_accuracy" in capsys.readouterr().out


@pytest.mark.slow
def test_study_is_compared_with_the_same_runs_as_separate_commands(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    scenarios = ("encoder-frozen", "intent-head-frozen-safe")
    options = ("--data", tmp_path, "--encoder", encoder, "--rows", 9, "--epochs", 1)
    result = run("study", *options, "--scenarios", *scenarios)
    assert (result["benchmark"], result["rows"], result["epochs"]) == ("study", 9, 1)
    (times,) = result["rounds"]
    assert list(times["separate"]) == [*scenarios, "nothing-frozen"]
    assert result["ratio"] == times["study"]["seconds"] / sum(run["seconds"] for run in times["separate"].values())
    assert result["passed"] == (result["ratio"] <= 0.5)
    for scores in times["test"].values():
        assert scores["study"] == pytest.approx(scores["separate"], abs=1e-6)
    assert "of the separate runs" in capsys.readouterr().out


def test_distill_compares_students_and_averages(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    options = ("--data", tmp_path, "--encoder", encoder, "--labeled-rows", 10, "--unlabeled-rows", 8)
    result = run("distill", *options, "--epochs", 1, "--distill-epochs", 1, "--teachers", 2, "--seeds", 0, 1)
    assert (result["labeled_rows"], result["unlabeled_rows"], result["teachers"]) == (10, 8, 2)
    kinds = [(item["kind"], item["seed"]) for item in result["runs"]]
    students = [(kind, seed) for seed in (0, 1) for kind in ("student alone", "student with teacher")]
    assert kinds == [("teacher", 0), ("teacher", 1), *students]
    assert len(result["averages"]) == 4
    assert "gain of the student's slot F1 by its teacher" in capsys.readouterr().out


def test_converged_compares_times_and_scores_with_training_everything(run, encoder, datasets_folder, tmp_path, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--datasets", "snips", "--epochs", 8)
    options = (*options, "--batch-size", 8)
    picture = tmp_path / "curve.svg"
    result = run("converged", *options, "--seeds", 3, "--aggressiveness", 1000, "--picture", picture)
    everything, frozen = result["runs"]
    assert (everything["schedule"], everything["changes"]) == ("nothing-frozen", [])
    assert frozen["schedule"] == "converged, 1000"
    assert [change["trains"] for change in frozen["changes"]] == [3]
    assert everything["processor_seconds"] > 0
    assert "| nothing-frozen | 1.00 ± 0.00 |" in capsys.readouterr().out
    svg = picture.read_text(encoding="utf-8")
    assert all(f">{text}</text>" in svg for text in ("nothing-frozen", "1000", "snips, joint_accuracy"))


def test_signals_are_replayed_from_one_training(run, encoder, datasets_folder, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--datasets", "snips", "--epochs", 8)
    (result,) = run("signals", *options, "--batch-size", 8, "--keep", 0.5, "--aggressiveness", 0.01, 1000)["runs"]
    assert result["steps"] == 24
    for record in result["signals"].values():
        assert [int(step) for step in record] == list(range(1, 25))
        assert all(value > 0 for value in record["24"].values())
    # Nothing freezes before there are enough measurements for a pace.
    for signal in ("distance of the weights", "drift of the states"):
        assert result["freezes"][f"{signal}, 0.01"] == []
        assert result["freezes"][f"{signal}, 1000"] == [[5, "encoder.0"]]
    assert all(0 < share < 1 for share in result["costs"].values())
    printed = capsys.readouterr().out
    assert "drift of the states, 1000       5: up to encoder.0" in printed
    assert "distance of the weights         costs " in printed


KINDS = {"B-place": "B-artist", "I-place": "I-artist"}
# Entities of two types.
MIXED_ROWS = [
    {**row, "slots": [KINDS.get(tag, tag) for tag in row["slots"]]} if i % 2 else row for i, row in enumerate(ROWS)
]


def test_label_issues_counts_the_exchanged_labels(run, encoder, write_jsonl, tmp_path, capsys):
    for folder in ("snips", "clinc150"):
        (tmp_path / folder).mkdir()
    for split in SPLITS:
        write_jsonl(MIXED_ROWS, tmp_path / "snips" / f"{split}.jsonl")
    with (tmp_path / "clinc150" / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "intent"), *((" ".join(row["tokens"]), row["intent"]) for row in ROWS)])
    options = ("--data", tmp_path, "--encoder", encoder, "--share", 0.1)
    result = run("label-issues", *options, "--datasets", "clinc150", "snips")
    assert [(item["data"], item["task"]) for item in result["runs"]] == [
        ("clinc150", "intent"),
        ("snips", "intent"),
        ("snips", "slots"),
    ]
    for item in result["runs"]:
        assert (item["rows"], item["exchanged"]) == (22, 2)
        assert 0 <= item["in_first_part"] <= 1
    assert "| clinc150 | intent | 0 | 22 | 2 |" in capsys.readouterr().out


def test_exchanged_labels_are_others_and_all_else_stays(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.label_issues import exchange_labels

    before = [*MIXED_ROWS, *ROWS]
    rows = [dict(row) for row in before]
    changed = exchange_labels(rows, 0.2, 0)
    assert {task: len(found) for task, found in changed.items()} == {"intent": 9, "slots": 9}
    for task, found in changed.items():
        assert {i for i, (row, old) in enumerate(zip(rows, before, strict=True)) if row[task] != old[task]} == found
    for row, old in zip(rows, before, strict=True):
        spans = [[(span.start, span.end) for span in tag_spans(one["slots"])] for one in (row, old)]
        assert spans[0] == spans[1]


def test_probe_shows_the_scores_of_each_depth_and_the_time(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    result = run("probe", "--data", tmp_path, "--encoder", encoder, "--sizes", 8, "--seeds", 0, 1)
    assert [(found["rows"], found["seed"]) for found in result["runs"]] == [(8, 0), (8, 1)]
    printed = capsys.readouterr().out
    first = result["runs"][0]["tasks"][0]["scores"][0], result["runs"][1]["tasks"][0]["scores"][0]
    assert f"| 8 | intent accuracy | {50 * sum(first):.1f} |" in printed


@pytest.mark.slow
def test_race_compares_choice_and_time_with_the_full_study(run, encoder, datasets_folder, tmp_path, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--folder", tmp_path / "studies", "--sizes", 8)
    options += ("--seeds", 2, "--validation-rows", 2, "--least-steps", 8, "--datasets", "snips", "clinc150", "wnut17")
    options += ("--scenarios", "encoder-frozen", "top:1")
    result = run("race", *options, "--also", "encoder[:1]")
    cells = [(cell["dataset"], cell["rows"], cell["task"]) for cell in result["cells"]]
    assert cells == [("snips", 8, "intent"), ("snips", 8, "slots"), ("clinc150", 8, "intent"), ("wnut17", 8, "ner")]
    validation = tmp_path / "studies" / "wnut17" / "data" / "validation.conll"
    assert len(validation.read_text(encoding="utf-8").strip().split("\n\n")) == 2
    for cell in result["cells"]:
        # One rung, with one of two seeds.
        assert 0 < cell["time"] < 1
        assert cell["gap"] >= 0
        assert cell["gap"] > 0 or cell["choice"] == cell["best"] or not cell["significant"]
    studied = [(item["rows"], item["scenario"]) for item in result["scores"] if item["dataset"] == "snips"]
    assert studied == [(8, "encoder-frozen"), (8, "top:1"), (8, "encoder[:1]")]
    for item in result["scores"]:
        assert len(item["processor_seconds"]) == 2
        assert {len(values) for values in item["test"].values()} == {2}
    # What is there is not trained again, and the times are kept. A scenario that does not race changes no cell.
    capsys.readouterr()
    again = run("race", *options)
    assert again["cells"] == result["cells"]
    assert again["scores"] == [item for item in result["scores"] if item["scenario"] != "encoder[:1]"]
    printed = capsys.readouterr().out
    assert "of 4 cells pass" in printed
    assert "| wnut17, 8 rows | ner_f1 | time |" in printed
