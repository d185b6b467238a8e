"""What a probe says of encoders and labels of which it is known, and of every kind of config."""

import json
import random

import numpy as np
import pytest

from hf_multitask import RunConfig, probe_layers
from hf_multitask.cli import main
from tests.conftest import MINILM
from tests.data.reading import read_rows
from tests.probing.conftest import TASKS, make_rows
from tests.tiny import ARCHITECTURES, ROWS, save_tiny_run


def scores_of(probe):
    return {task.name: list(task.scores) for task in probe.tasks}


def test_what_a_layer_forgets_is_read_below_it_only(make_config, forgetful_encoder):
    probe = probe_layers(make_config(make_rows(160), validation=make_rows(80, 1), encoder=str(forgetful_encoder)))
    assert probe.depths == ["embeddings", "encoder.0", "encoder.1", "encoder.2"]
    intent, slots = probe.tasks
    # Upside down, the first and the last score would change places.
    assert list(intent.scores[:2]) == [1.0, 1.0]
    assert intent.scores[3] == pytest.approx(0.25, abs=0.1), "four classes of one size"
    assert slots.scores[0] > 0.9
    assert slots.scores[3] == 0.0
    assert (intent.best_depth, slots.best_depth) == (0, 0)
    assert intent.lost_on_top == pytest.approx(1 - intent.scores[3])
    # A head on states that are all equal has no weights, and sends no gradient down.
    for task in probe.tasks:
        assert set(task.gradient_ratios.values()) == {0.0}
        assert task.steepest_group is None
    assert probe.sentences()[0].startswith("intent: linear heads read it best from depth 0 of 3 (embeddings)")
    assert len(probe.sentences()) == 2


def test_labels_by_chance_are_read_at_no_depth(make_config):
    generator = random.Random(0)
    rows = [{**row, "intent": generator.choice("abcd")} for row in make_rows(400)]
    probe = probe_layers(make_config(rows[:200], TASKS[:1], rows[200:]))
    assert max(probe.tasks[0].scores) < 0.4


def test_the_same_seed_gives_the_same_numbers(make_config):
    config = make_config(make_rows(60), training={"seed": 3})
    first, second = (probe_layers(config, 40).to_dict() for _ in range(2))
    other = probe_layers(make_config(make_rows(60), training={"seed": 4}), 40).to_dict()
    for found in (first, second, other):
        del found["seconds"]
    assert first == second
    assert first["tasks"] != other["tasks"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_encoder_has_states_at_each_depth(architecture, make_config, encoders):
    probe = probe_layers(make_config(make_rows(24), encoder=str(encoders[architecture])))
    assert len(probe.depths) == 4
    assert all(len(task.scores) == 4 for task in probe.tasks)
    groups = ["encoder"] if architecture == "albert" else ["embeddings", "encoder.0", "encoder.1", "encoder.2"]
    for task in probe.tasks:
        assert set(groups) <= set(task.gradient_ratios)
        assert all(np.isfinite(ratio) and ratio > 0 for ratio in task.gradient_ratios.values())


def test_without_validation_each_part_of_train_is_scored_by_the_others(make_config):
    probe = probe_layers(make_config(make_rows(100)))
    assert probe.held_out == "each of 5 parts of train by the heads of the others"
    intent, slots = probe.tasks
    assert (intent.training_rows, intent.held_out_rows) == (100, 100)
    assert intent.scores[0] == 1.0
    assert slots.scores[0] > 0.9


def test_no_row_is_scored_by_a_head_that_has_seen_it(make_config):
    generator = random.Random(0)
    # So few rows that a head knows the label of each row that it is trained on, and no word says more than chance.
    rows = [{"text": f"{a} {b}", "kind": generator.choice("xy")} for a in "abcd" for b in "klmn"]
    probe = probe_layers(make_config(rows, [{"name": "kind", "type": "sequence_classification"}]))
    assert max(probe.tasks[0].scores) < 0.8


def test_tasks_on_different_rows(make_config):
    rows = make_rows(60)
    train = [{**row, "slots": None} if i % 10 else {**row, "intent": None} for i, row in enumerate(rows)]
    probe = probe_layers(make_config(train), 20)
    # Tasks take turns: the sample of 20 has all 6 rows with slots.
    assert [(task.training_rows, task.held_out_rows) for task in probe.tasks] == [(14, 14), (6, 6)]


def test_tasks_of_different_datasets(make_config):
    rows = make_rows(40)
    data = [
        {"train": [{"tokens": row["tokens"], "intent": row["intent"]} for row in rows], "tasks": ["intent"]},
        {"train": [{"tokens": row["tokens"], "slots": row["slots"]} for row in rows], "tasks": ["slots"]},
    ]
    probe = probe_layers(make_config(None, data=data))
    assert [task.training_rows for task in probe.tasks] == [40, 40]


def test_several_labels_and_numbers(make_config, forgetful_encoder):
    kinds = [
        {"name": "kinds", "type": "sequence_classification", "problem_type": "multi_label_classification"},
        {"name": "stars", "type": "sequence_classification", "problem_type": "regression"},
    ]
    rows = [
        {"tokens": row["tokens"], "kinds": [row["intent"]], "stars": 100.0 + 50 * (row["intent"] == "RateBook")}
        for row in make_rows(240)
    ]
    probe = probe_layers(make_config(rows[:160], kinds, rows[160:], encoder=str(forgetful_encoder)))
    several, number = probe.tasks
    assert (several.metric, several.scores[0], several.scores[-1]) == ("accuracy", 1.0, 0.0)
    assert number.metric == "mse"
    # A quarter of the rows have 50 more: their variance is what a constant leaves.
    assert number.scores[0] < 20
    assert number.scores[-1] == pytest.approx(50**2 * 0.25 * 0.75, rel=0.1)
    assert number.best_depth < 3
    assert number.lost_on_top > 0


def test_heads_adapters_and_schedules_of_the_config_change_nothing(make_config, caplog):
    rows = make_rows(40)
    slots = {**TASKS[1], "head": "lstm", "crf": True, "mix_layers": True}
    plain = probe_layers(make_config(rows)).to_dict()
    with caplog.at_level("INFO", logger="hf_multitask"):
        config = make_config(rows, [TASKS[0], slots], lora={"r": 2}, freeze="three-stage")
        other = probe_layers(config).to_dict()
    assert "lora is not probed" in caplog.text
    assert other["tasks"] == plain["tasks"]
    assert config.lora is not None, "the config is as it was"


def test_texts_in_windows(make_config):
    rows = [{**row, "tokens": row["tokens"] * 6, "slots": row["slots"] * 6} for row in make_rows(60)]
    options = {"train": rows, "max_length": 16, "overlap": 4}
    probe = probe_layers(make_config(None, data=options))
    assert probe.tasks[0].scores[0] == 1.0
    assert probe.tasks[1].scores[0] > 0.9


def test_the_first_rows_of_a_stream(make_config, write_jsonl):
    path = write_jsonl(make_rows(80))
    data = {"train": str(path), "streaming": True}
    labels = [
        {**TASKS[0], "labels": sorted({row["intent"] for row in make_rows(4)})},
        {**TASKS[1], "labels": ["O", "B-place", "I-place"]},
    ]
    probe = probe_layers(make_config(None, labels, data=data, training={"max_steps": 5}), 30)
    first = probe_layers(make_config(make_rows(80)[:30], labels), 30)
    assert scores_of(probe) == scores_of(first)
    assert probe.tasks[0].training_rows == 30


def test_a_saved_multi_task_model(make_config, model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    probe = probe_layers(make_config(ROWS, encoder=str(tmp_path)))
    assert [task.name for task in probe.tasks] == ["intent", "slots"]


def test_fewer_rows_where_memory_is_short(make_config, monkeypatch, caplog):
    monkeypatch.setattr("hf_multitask.probing.rows.MAX_BYTES", 32_000)
    with caplog.at_level("INFO", logger="hf_multitask"):
        probe = probe_layers(make_config(make_rows(60)))
    # 7 tokens and a text at 4 depths of width 16: 8 x 256 bytes.
    assert probe.tasks[0].training_rows == 15
    assert "the probe reads 15" in caplog.text


def test_mistakes_are_found_before_anything_is_computed(make_config):
    with pytest.raises(ValueError, match=r"rows must be at least 2, .* found 1"):
        probe_layers(make_config(ROWS), 1)
    rows = [{**row, "intent": None} for row in make_rows(10)]
    rows[0]["intent"] = "PlayMusic"
    with pytest.raises(
        ValueError, match=r"task 'intent': too few rows have a label for it, found 1; expected at least 2"
    ):
        probe_layers(make_config(rows))


def test_the_command_prints_a_table_and_json_and_draws(tmp_path, capsys):
    config = str(save_tiny_run(tmp_path, {}, tmp_path / "out"))
    picture = tmp_path / "probe.svg"
    assert main(["probe", config, "--rows", "16", "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "embeddings" in printed
    assert "slots: heads are trained on 16 labeled rows and scored on 9 (validation)." in printed
    assert "slots (f1)" in picture.read_text()
    assert not (tmp_path / "out").exists()
    assert main(["probe", config, "--json", "--training.seed", "5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seed"] == 5
    assert [len(task["scores"]) for task in found["tasks"]] == [4, 4]
    assert main(["probe", config, "--picture", "probe.pdf"]) == 2
    assert "probe.pdf" in capsys.readouterr().err


@pytest.mark.slow
def test_minilm_reads_slots_below_its_top(real_data):
    values = {"encoder": MINILM, "tasks": TASKS, "output_dir": "unused"}
    rows = read_rows(real_data / "snips" / "train.jsonl").rows[:400]
    probe = probe_layers(RunConfig.from_dict(values | {"data": {"train": rows[:300], "validation": rows[300:]}}))
    intent, slots = probe.tasks
    assert min(intent.scores) > 0.85
    assert slots.best_depth in (2, 3, 4)
    assert slots.lost_on_top > 0.03
