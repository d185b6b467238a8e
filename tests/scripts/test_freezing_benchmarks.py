"""Benchmarks of freezing compare what they promise and write the results. The times are not checked."""

import pytest

from tests.scripts.splits import SPLITS


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
