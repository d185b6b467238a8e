"""A study with folds: each run holds out a fold, and scenarios are compared on the rows of all folds."""

import json
import statistics

import numpy as np
import pytest
import yaml

from hf_multitask import RunConfig, load_study, run_study
from hf_multitask.runs.build import build_trainer
from hf_multitask.study.row_scores import RowScores, spread_scores
from tests.tiny import ROWS

FOLDS = 2


@pytest.fixture(scope="module")
def config(config):
    """Return a config with the training rows only."""
    values = yaml.safe_load(config.read_text())
    values["data"] = {"train": values["data"]["train"], "folds": FOLDS}
    path = config.with_name("folds.yaml")
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds") / "study"
    run_study(
        RunConfig.from_file(config), folder, ["nothing-frozen", "intent-head-frozen-risky"], seeds=2, sizes=[5, "all"]
    )
    return folder


def test_there_is_a_run_for_each_fold_and_seed(finished):
    study = load_study(finished)
    assert study.num_rows == {"train": 8, "held out": 16}
    for scenario in study.scenarios:
        found = sorted((run.size, run.seed, run.fold) for run in scenario.runs)
        assert found == [(size, seed, fold) for size in (5, 8) for seed in (3, 4) for fold in range(FOLDS)]
        assert all(run.metrics["test"] == pytest.approx(run.metrics["validation"]) for run in scenario.runs)
    # A run starts from the model of the same fold, which has not seen the rows that it holds out.
    risky = study.scenarios[1].runs[0]
    assert (risky.frozen_task.before, risky.frozen_task.task) == (
        study.scenarios[0].runs[0].metrics["test"]["intent_accuracy"],
        "intent",
    )


def test_the_score_is_the_mean_over_folds_and_seeds(finished):
    study = load_study(finished)
    for scenario in study.scenarios:
        values = [run.metrics["test"]["intent_accuracy"] for run in scenario.runs if run.size == 8]
        score = scenario.summary_of(8).scores["intent"]
        assert score.mean == pytest.approx(statistics.fmean(values))
        assert score.sd == pytest.approx(statistics.stdev(values))
        assert scenario.summary_of(8).seeds == [3, 4]
    assert "16 rows in 2 folds" in study.advice


def test_reports_speak_of_folds(finished):
    text = (finished / "study.md").read_text()
    assert "Scores on the held-out folds, mean ± standard deviation over folds and seeds" in text
    assert "Each run held out one fold" in text
    assert "on test" not in text


def test_a_run_is_scored_on_its_own_fold(finished, config):
    _, data = build_trainer(RunConfig.from_file(config))
    for fold in range(FOLDS):
        path = finished / "runs" / "nothing-frozen" / "8" / "3" / f"fold-{fold + 1}" / "record.json"
        scores = json.loads(path.read_text())["rows"]["intent"]
        assert len(scores["numerators"]) == len(data.folds.rows(fold))


def test_scores_of_some_rows_add_nothing_to_the_others():
    spread = spread_scores(RowScores([1.0, 2.0], [3.0, 4.0]), [3, 1], 5)
    assert spread == RowScores([0.0, 2.0, 0.0, 1.0, 0.0], [0.0, 4.0, 0.0, 3.0, 0.0])
    assert np.sum(spread.numerators) == 3


def test_a_fold_without_an_entity_is_refused_before_training(config, write_jsonl, tmp_path):
    plain = [{**row, "slots": ["O"] * len(row["tokens"])} for row in ROWS]
    path = write_jsonl([*plain[:6], {**ROWS[0], "tokens": ["paris"], "slots": ["B-place"]}])
    values = yaml.safe_load(config.read_text()) | {"output_dir": str(tmp_path / "out")}
    values |= {"encoder": str(config.parent / "encoder"), "data": {"train": str(path), "folds": 2}}
    with pytest.raises(ValueError, match=r"data.folds: fold [12] of 2 has no entity of task 'slots' to score"):
        run_study(RunConfig.from_dict(values), tmp_path / "study", ["nothing-frozen"])
    assert not (tmp_path / "study" / "runs").exists()
