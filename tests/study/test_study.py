"""Whole studies on a tiny encoder: results, files, continuation and refusals."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from hf_multitask import MultiTaskModel, RunConfig, load_study, run_evaluation, run_study
from hf_multitask.cli import main
from hf_multitask.cli.program import INTERRUPTED
from hf_multitask.cli.study import print_study
from hf_multitask.study.report import NOTHING, changes_table
from tests.comparison import approximately
from tests.study.studies import SCENARIOS, arguments

JOINT = "nothing-frozen"
# Fields that differ each time a run is trained: also which run computes the shared states, and so their time.
MEASURED = ("seconds", "total_seconds", "peak_memory_bytes")


def start(command, **environment):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell starts background jobs with SIGINT ignored, which their children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def records(folder):
    return {path.relative_to(folder): path for path in sorted(folder.glob("runs/*/*/*/record.json"))}


def wait_for_records(process, folder, count):
    deadline = time.monotonic() + 120
    while len(records(folder)) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def results(study):
    """Return the result of each run without the measured fields."""
    return {
        (scenario.name, run.size, run.seed): {
            name: value for name, value in asdict(run).items() if name not in MEASURED
        }
        for scenario in study.scenarios
        for run in scenario.runs
    }


def copy_of(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_each_scenario_has_a_run_of_each_size_and_seed(finished):
    study = load_study(finished)
    # The scenario that another one starts from is added.
    assert [scenario.name for scenario in study.scenarios] == [*SCENARIOS, JOINT]
    for scenario in study.scenarios:
        assert sorted((run.size, run.seed) for run in scenario.runs) == [(8, 3), (8, 4), (16, 3), (16, 4)]
        assert [summary.size for summary in scenario.summary] == [8, 16]
    assert study.num_rows == {"train": 16, "validation": 9, "test": 13}
    assert study.main_metrics == {"intent": "intent_accuracy", "slots": "slots_f1"}
    assert [front.size for front in study.pareto] == [8, 16]


def test_scores_match_an_evaluation_of_the_models(finished, config):
    study = load_study(finished)
    joint = study.scenarios[-1]
    for run in joint.runs:
        evaluated = run_evaluation(finished / run.model, config.parent / "test.jsonl")
        assert run.metrics["test"] == pytest.approx(evaluated, rel=1e-4)
    summary = joint.summary_of(16)
    values = [run.metrics["test"]["slots_f1"] for run in joint.runs if run.size == 16]
    assert summary.scores["slots"].mean == pytest.approx(sum(values) / 2)
    assert summary.scores["slots"].sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    first = study.scenarios[0].summary_of(16).scores["slots"]
    assert first.difference is None
    difference = summary.scores["slots"].difference
    assert difference.mean == pytest.approx(summary.scores["slots"].mean - first.mean)
    assert difference.low <= difference.mean <= difference.high


def test_only_models_that_others_start_from_are_kept(finished):
    for scenario in load_study(finished).scenarios:
        for run in scenario.runs:
            assert (run.model is None) == (scenario.name != JOINT)
            assert (finished / run.history).is_file()
    assert not list(finished.glob("runs/**/checkpoint-*"))
    assert not (finished / "states").exists()


def test_a_head_that_is_frozen_starts_from_the_joint_model_and_stays(finished):
    study = load_study(finished)
    by_name = {scenario.name: scenario for scenario in study.scenarios}
    joint = {(run.size, run.seed): run for run in by_name[JOINT].runs}
    for run in by_name["intent-head-frozen-risky"].runs:
        started = joint[run.size, run.seed]
        assert run.frozen_task.task == "intent"
        assert run.frozen_task.before == started.metrics["test"]["intent_accuracy"]
        assert run.frozen_task.after == run.metrics["test"]["intent_accuracy"]
        assert run.total_seconds == run.seconds + started.seconds
        assert run.forgetting["slots"].from_start == pytest.approx(
            started.metrics["validation"]["slots_f1"] - run.metrics["validation"]["slots_f1"]
        )
        head = MultiTaskModel.from_pretrained(finished / started.model).heads["intent"]
        assert run.trainable_parameters == run.parameters - sum(weight.numel() for weight in head.parameters())


def test_a_frozen_encoder_does_not_drift_and_a_trainable_one_does(finished):
    for scenario in load_study(finished).scenarios:
        for run in scenario.runs:
            if scenario.name == "encoder-frozen":
                assert run.drift == {"pooled": pytest.approx(0, abs=1e-6), "tokens": pytest.approx(0, abs=1e-6)}
                assert run.trainable_parameters < 0.1 * run.parameters
            else:
                assert min(run.drift.values()) > 1e-5
            assert all(item.from_best >= 0 for item in run.forgetting.values())
            assert run.loss_gap is not None


def test_a_study_says_how_well_the_scores_of_each_task_are_calibrated(finished):
    study = load_study(finished)
    size = study.scenarios[0].runs[0].size
    table = changes_table(study, size)
    for task in ("intent", "slots"):
        column = table.header.index(f"{task}: calibration error")
        cells = {row[0]: row[column] for row in table.rows}
        for scenario in study.scenarios:
            errors = [run.metrics["test"].get(f"{task}_ece") for run in scenario.runs if run.size == size]
            known = [error for error in errors if error is not None]
            expected = f"{sum(known) / len(known):.4f}" if known else NOTHING
            assert cells[scenario.name] == expected
    assert len(set(cells.values())) > 1


def test_a_single_task_has_no_other_head_and_no_overall_score(finished):
    alone = next(item for item in load_study(finished).scenarios if item.name == "slots-alone")
    assert not any(name.startswith("intent") for name in alone.runs[0].metrics["test"])
    assert alone.summary[0].overall is None
    assert list(alone.summary[0].scores) == ["slots"]


class Tables(HTMLParser):
    """Parser for the cells of a page's tables and the files that the page would load."""

    def __init__(self):
        super().__init__()
        self.rows, self.loaded, self.cell = [], [], None

    def handle_starttag(self, tag, attributes):
        self.loaded += [(tag, value) for name, value in attributes if name in ("src", "srcset", "data")]
        self.loaded += [(tag, value) for name, value in attributes if name == "href" and value[:1] not in "#d"]
        if tag == "script":
            self.loaded.append((tag, None))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.cell = ""

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.rows[-1].append(self.cell)
            self.cell = None


def cell(score):
    return f"{score['mean']:.4f} ± {score['sd']:.4f}"


def test_the_numbers_of_page_and_markdown_match_the_json(finished):
    values = json.loads((finished / "study.json").read_text())
    page = Tables()
    html = (finished / "study.html").read_text()
    page.feed(html)
    assert page.loaded == []
    assert len(html.encode()) < 3_000_000
    markdown = (finished / "study.md").read_text().replace("\\", "")
    lines = [[part.strip() for part in line.strip("| ").split(" | ")] for line in markdown.splitlines()]
    for found in (page.rows, lines):
        for scenario in values["scenarios"]:
            for summary in scenario["summary"]:
                scores = [summary["scores"].get(task) for task in ("intent", "slots")] + [summary["overall"]]
                expected = [cell(score) if score else "–" for score in scores]
                assert [scenario["name"], *expected] in [[row[0], *row[1::2]] for row in found if len(row) == 7]
                costs = [f"{summary['seconds']:,.1f}", f"{summary['total_seconds']:,.1f}"]
                assert [scenario["name"], *costs] in [row[:3] for row in found]
                for task in ("intent", "slots"):
                    difference = summary["scores"].get(task, {}).get("difference")
                    if difference:
                        text = "{mean:+.4f} ({low:+.4f} to {high:+.4f})".format(**difference)
                        assert any(
                            cell_.startswith(text) for row in found if row[0] == scenario["name"] for cell_ in row
                        )
    assert values["advice"] in markdown
    assert values["advice"] in re.sub(r"&#(\d+);", lambda code: chr(int(code.group(1))), html)


def test_figures_are_saved_in_both_formats_and_on_the_page(finished):
    names = {path.name for path in (finished / "pictures").iterdir()}
    shown = ["scores", "time", "sizes", *(f"curves-{name.replace(':', '-')}" for name in [*SCENARIOS, JOINT])]
    assert names == {f"{name}.{kind}" for name in shown for kind in ("png", "svg")}
    assert (finished / "study.html").read_text().count("<svg") == len(shown)
    markdown = (finished / "study.md").read_text()
    for name in shown:
        assert f"(pictures/{name}.png)" in markdown
        assert (finished / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [80, 60])
def test_its_tables_fit_the_terminal(finished, width):
    file = io.StringIO()
    print_study(load_study(finished), Console(file=file, width=width))
    written = file.getvalue()
    assert max(map(len, written.splitlines())) <= width
    assert "…" not in written
    assert {JOINT, *SCENARIOS} <= set(re.split(r"[\s│]+", written))


def test_a_finished_study_trains_nothing_again(finished, config, tmp_path, capsys):
    folder = copy_of(finished, tmp_path)
    before = {name: path.stat().st_mtime_ns for name, path in records(folder).items()}
    assert main(arguments(config, folder)) == 0
    assert {name: path.stat().st_mtime_ns for name, path in records(folder).items()} == before
    assert load_study(folder).scenarios == load_study(finished).scenarios
    assert "20/20" in capsys.readouterr().out


def test_more_scenarios_and_seeds_add_runs(finished, config, tmp_path):
    folder = copy_of(finished, tmp_path)
    before = {name: path.stat().st_mtime_ns for name, path in records(folder).items()}
    study = run_study(RunConfig.from_file(config), folder, ["everything-frozen", "top:1"], seeds=3, sizes=["all"])
    assert [len(scenario.runs) for scenario in study.scenarios] == [3, 3]
    baseline = study.scenarios[0].runs[0]
    assert (baseline.trainable_parameters, baseline.epochs, baseline.kept_epoch) == (0, 0.0, None)
    assert baseline.metrics["validation"].keys() == baseline.metrics["test"].keys()
    after = {name: path.stat().st_mtime_ns for name, path in records(folder).items()}
    assert len(after) == len(before) + 4
    assert before.items() <= after.items()


@pytest.mark.slow
def test_a_study_that_was_killed_can_be_continued(finished, config, tmp_path):
    folder = tmp_path / "killed"
    process = start(["-m", "hf_multitask", *arguments(config, folder)])
    wait_for_records(process, folder, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {name: path.stat().st_mtime_ns for name, path in records(folder).items()}
    assert 3 <= len(before) < 20
    assert not (folder / "study.json").exists()
    with pytest.raises(FileNotFoundError, match="it contains no study, or an unfinished one"):
        load_study(folder)
    assert main(arguments(config, folder)) == 0
    after = {name: path.stat().st_mtime_ns for name, path in records(folder).items()}
    assert before.items() <= after.items()
    assert results(load_study(folder)) == approximately(results(load_study(finished)), rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_several_processes_share_the_runs(finished, config, tmp_path):
    folder = tmp_path / "shared"
    process = start(["-m", "hf_multitask", *arguments(config, folder, "--processes", "2")])
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "20/20" in output
    assert results(load_study(folder)) == approximately(results(load_study(finished)), rel=1e-3, abs=1e-5)


@pytest.mark.distributed
@pytest.mark.slow
def test_processes_of_a_launcher_share_the_runs(finished, config, tmp_path):
    folder = tmp_path / "launched"
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29531"]
    process = start([*launch, "-m", "tests.study.late_program", *arguments(config, folder)])
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert output.count("20/20") == 1
    assert results(load_study(folder)) == approximately(results(load_study(finished)), rel=1e-3, abs=1e-5)


def start_workers(config, folder):
    """Start a study with two workers, and return its process and its workers once a run is finished."""
    import psutil

    process = start(["-m", "hf_multitask", *arguments(config, folder, "--processes", "2")])
    wait_for_records(process, folder, 1)
    children = psutil.Process(process.pid).children()
    return process, [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_a_killed_worker_is_reported_and_the_finished_runs_are_kept(config, tmp_path):
    folder = tmp_path / "worker"
    process, workers = start_workers(config, folder)
    workers[0].kill()
    output, _ = process.communicate(timeout=100)
    assert process.returncode != 0
    assert "a process of the study was killed" in output
    assert records(folder)


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_and_keeps_the_finished_runs(config, tmp_path):
    import psutil

    folder = tmp_path / "interrupted"
    process, workers = start_workers(config, folder)
    assert len(workers) == 2
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == INTERRUPTED
    assert "the finished runs are kept" in output
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert records(folder)


def test_the_folder_of_another_config_is_refused(finished, config, capsys):
    before = {name: path.read_bytes() for name, path in records(finished).items()}
    command = arguments(config, finished)
    assert main([*command, "--training.learning_rate", "0.5", "--data.max_length", "20"]) == 2
    error = capsys.readouterr().err
    assert "contains the study of another config" in error
    assert "data.max_length is None there and 20 here" in error
    assert "training.learning_rate is 0.01 there and 0.5 here" in error
    assert main([*command, "--epochs", "3"]) == 2
    assert "training.num_train_epochs is 2 there and 3.0 here" in capsys.readouterr().err
    assert {name: path.read_bytes() for name, path in records(finished).items()} == before


def test_other_rows_in_the_same_file_are_another_config(finished, config, tmp_path, capsys):
    folder = Path(shutil.copytree(config.parent, tmp_path / "config"))
    rows = (folder / "train.jsonl").read_text().splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(rows[1:]))
    shutil.rmtree(folder / "encoder")
    assert main([*arguments(folder / "config.yaml", finished), "--encoder", str(config.parent / "encoder")]) == 2
    assert "data.train is 'train.jsonl, sha256" in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused(config, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(arguments(config, tmp_path)) == 2
    assert "exists and does not contain a study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scenarios", "encoder-frozn"], "unknown scenario 'encoder-frozn'. Did you mean 'encoder-frozen'"),
        (
            ["--sizes", "17"],
            "expected numbers of rows from 1 to 16, the number of rows of train, or 'all', found '17'",
        ),
        (["--sizes", "some"], "found 'some'"),
        (["--seeds", "0"], "Invalid value for '--seeds'"),
        (["--minutes", "0"], "minutes must be above 0, found 0"),
        (["--processes", "0"], "Invalid value for '--processes'"),
        (["--data.test", "null"], "data.test is missing; the scenarios are compared on its rows"),
        (["--data.validation", "null"], "data.validation is missing"),
    ],
)
def test_invalid_input_is_refused_before_anything_is_written(options, message, config, tmp_path, capsys):
    folder = tmp_path / "study"
    assert main(arguments(config, folder, *options)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not folder.exists()


def test_a_scenario_that_does_not_fit_a_size_is_skipped_with_the_reason(config, tmp_path):
    study = run_study(RunConfig.from_file(config), tmp_path / "study", ["encoder-frozen", "gradual"], 1, [4], epochs=2)
    (skipped,) = study.skipped
    assert (skipped["scenario"], skipped["size"]) == ("gradual", 4)
    assert "would start at step 2, but the run ends at step 2" in skipped["reason"]
    assert "would start at step 2" in (tmp_path / "study" / "study.html").read_text()


def test_a_time_limit_ends_a_run_with_an_evaluation(config, tmp_path):
    study = run_study(
        RunConfig.from_file(config), tmp_path / "study", ["nothing-frozen"], 1, ["all"], epochs=100_000, minutes=0.02
    )
    (run,) = study.scenarios[0].runs
    assert run.out_of_time
    assert run.seconds > 1
    history = json.loads((tmp_path / "study" / run.history).read_text())["history"]
    (last, *_) = [entry for entry in reversed(history) if "eval_loss" in entry]
    steps = max(entry["step"] for entry in history)
    assert last["step"] == steps
    assert "cut short" in (tmp_path / "study" / "study.md").read_text()


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_full_disk_is_reported_and_loses_no_finished_run(processes, config, tmp_path, capsys):
    folder = tmp_path / "full"
    few = ("--seeds", "1", "--sizes", "all", "--processes", processes)
    assert main(arguments(config, folder, *few, "--scenarios", "encoder-frozen")) == 0
    (kept,) = records(folder)
    # The history of the second run is written to a device that is always full.
    second = folder / "runs" / "top-1" / "16" / "3"
    second.mkdir(parents=True)
    (second / "history.json.unfinished").symlink_to("/dev/full")
    both = arguments(config, folder, *few, "--scenarios", "encoder-frozen,top:1")
    assert main(both) == 1
    error = capsys.readouterr().err
    assert f"error: the disk of {str(folder)!r} is full. The finished runs are kept" in error
    assert list(records(folder)) == [kept]
    (second / "history.json.unfinished").unlink()
    assert main(both) == 0
    assert len(records(folder)) == 2
