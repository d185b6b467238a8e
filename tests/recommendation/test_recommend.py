"""`recommend` as users call it, on real files: its output, and a config that trains."""

import json
import re

import pytest
import yaml

from hf_multitask import MultiTaskModel, RunConfig, TaskConfig, load_tokenizer, prepare_datasets, recommend_schedule
from hf_multitask.cli import main
from hf_multitask.models.layer_groups import layer_groups
from hf_multitask.quickstart import QUICKSTART_CONFIG
from hf_multitask.recommendation.current_encoders import ENGLISH
from hf_multitask.recommendation.data_facts import collect_facts
from hf_multitask.recommendation.domain_distance import measure_closeness
from hf_multitask.recommendation.encoder_catalogue import (
    KNOWN,
    OF_DOMAIN,
    SMALL,
    EncoderSize,
    is_on_this_machine,
    named_groups,
)
from hf_multitask.recommendation.language import general_sample
from hf_multitask.recommendation.recommend import load_encoder
from hf_multitask.runs.training import run_plan
from tests.conftest import MINILM
from tests.data.reading import read_rows
from tests.recommendation.example_texts import OTHER_LANGUAGES, TEXTS
from tests.tiny import ROWS
from tests.trainers import make_trainer

TASKS = [{"name": "intent", "type": "sequence_classification"}, {"name": "slots", "type": "token_classification"}]


@pytest.fixture
def write_config(tmp_path, write_jsonl, encoder):
    """Return a function that writes a config and its data into one folder."""

    def write(rows=ROWS, **changes):
        write_jsonl(rows, tmp_path / "train.jsonl")
        write_jsonl(ROWS[:8], tmp_path / "validation.jsonl")
        values = {
            "encoder": str(encoder),
            "tasks": TASKS,
            "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
            "training": {"num_train_epochs": 99, "disable_tqdm": True, "seed": 7},
            "output_dir": str(tmp_path / "out"),
            **changes,
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        return tmp_path / "config.yaml"

    return write


@pytest.fixture(scope="module")
def minilm():
    """Return a function that measures texts with the real encoder."""
    config = RunConfig.from_dict(
        {"encoder": MINILM, "tasks": TASKS[:1], "data": {"train": [{"text": "a", "intent": "x"}]}, "output_dir": "o"}
    )
    model = load_encoder(config)
    tokenizer = load_tokenizer(MINILM)

    def measure_texts(texts):
        rows = [{"text": text, "intent": "x"} for text in texts]
        data = {"encoder": MINILM, "tasks": TASKS[:1], "data": {"train": rows}, "output_dir": "o"}
        return measure_closeness(model, tokenizer, collect_facts(RunConfig.from_dict(data)))

    return measure_texts


def test_general_sentences_are_close_to_the_sample(minilm):
    held_out = [row["text"] for row in read_rows(QUICKSTART_CONFIG.parent / "data" / "test.jsonl").rows[:100]]
    own, _ = minilm(general_sample())
    assert own.distance < 0.05
    assert own.split_ratio == pytest.approx(1, abs=0.02)
    other, _ = minilm(held_out)
    assert 0 < other.distance < 0.7


@pytest.mark.parametrize("domain", TEXTS)
def test_texts_of_a_domain_are_farther_than_general_ones(domain, minilm):
    general, _ = minilm(general_sample()[::2])
    special, _ = minilm(TEXTS[domain] * 4)
    assert special.distance > 3 * general.distance
    assert special.far


@pytest.mark.slow
def test_an_encoder_that_is_trained_on_the_texts_does_not_find_them_farther(tmp_path):
    rows = read_rows(QUICKSTART_CONFIG.parent / "data" / "train.jsonl").rows[:64]
    tokenizer = load_tokenizer(MINILM)
    data = prepare_datasets({"train": rows}, tokenizer, [TaskConfig("topic", "sequence_classification")])
    model = MultiTaskModel.from_encoder(MINILM, data.tasks)
    texts = [" ".join(row["tokens"]) for row in rows]

    def distances():
        config = {"encoder": MINILM, "tasks": TASKS[:1], "output_dir": "o"}
        config["data"] = {"train": [{"text": text, "intent": "x"} for text in texts]}
        closeness, _ = measure_closeness(model, tokenizer, collect_facts(RunConfig.from_dict(config)))
        general = model.encode(general_sample(), tokenizer)
        spread = (general - general.mean(0)).pow(2).sum(1).mean().sqrt()
        of_embeddings = (model.encode(texts, tokenizer).mean(0) - general.mean(0)).norm() / spread
        return closeness.distance, of_embeddings.item()

    before, before_of_embeddings = distances()
    make_trainer(model, data, tokenizer, tmp_path, max_steps=40, learning_rate=3e-4).train()
    after, after_of_embeddings = distances()
    assert after == pytest.approx(before, rel=0.05)
    assert after_of_embeddings > 1.5 * before_of_embeddings, "which the final states would have said"


def test_texts_that_the_tokenizer_cannot_read_are_far(minilm):
    russian, _ = minilm([OTHER_LANGUAGES["Russian"]] * 4)
    assert russian.split_ratio > 2
    chinese, _ = minilm(["龘靐齉爩"] * 40)
    assert chinese.unknown_share > 0.5
    assert "unknown to the tokenizer" in chinese.far


def test_the_written_config_plans_and_trains(write_config, tmp_path, capsys):
    path, output = write_config(), tmp_path / "elsewhere" / "recommended.yaml"
    output.parent.mkdir()
    assert main(["recommend", str(path), "--output", str(output), "--main-task", "slots"]) == 0
    printed = capsys.readouterr().out
    assert "22 labeled rows" in printed
    assert "Config written to" in printed

    recommended = RunConfig.from_file(output)
    stages = run_plan(recommended)
    assert stages, "the plan has stages"
    text = output.read_text(encoding="utf-8")
    assert text.startswith("# Recommended, because:\n# - ")
    assert recommended.training["seed"] == 7, "values that are not recommended stay"
    assert recommended.training["num_train_epochs"] < 99
    assert recommended.training["metric_for_best_model"] == "slots_f1"

    assert main(["plan", str(output)]) == 0
    assert main(["train", str(output), "--training.num_train_epochs", "2"]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["validation"]


def test_a_probe_says_which_sentences_are_measured_on_these_rows(write_config, tmp_path, capsys):
    path = str(write_config(ROWS * 3))
    assert main(["recommend", path, "--probe", "--output", str(tmp_path / "r.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "[measured on these rows] slots, probed: linear heads on the frozen encoder score 0." in printed
    assert "[general] learning rates:" in printed
    assert "# - (measured on these rows) slots, probed" in (tmp_path / "r.yaml").read_text()
    assert main(["recommend", path]) == 0
    assert "measured on these rows" not in capsys.readouterr().out


def test_the_stages_are_those_of_the_run(write_config):
    config = RunConfig.from_file(write_config())
    recommendation = recommend_schedule(config)
    planned = run_plan(recommendation.config)
    assert [stage.name for stage in planned] == [stage.name for stage in recommendation.schedule.stages]
    assert recommendation.config.freeze == recommendation.preset
    assert planned[0].learning_rates["head.intent"] == recommendation.head_learning_rate


def test_overrides_and_files_of_the_working_directory(write_config, tmp_path, write_jsonl, monkeypatch, capsys):
    path = write_config()
    monkeypatch.chdir(tmp_path)
    write_jsonl(ROWS[:15], tmp_path / "fewer.jsonl")
    assert main(["recommend", str(path), "--data.train", "fewer.jsonl", "--output", "r.yaml"]) == 0
    assert "15 labeled rows" in capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "r.yaml").read_text())["data"]["train"] == "fewer.jsonl"


def test_several_data_sets_and_a_main_task_with_few_rows(write_config, tmp_path, write_jsonl):
    many = [{"text": row["tokens"][0] + f" {i}", "intent": row["intent"]} for i, row in enumerate(ROWS * 60)]
    write_jsonl(many, tmp_path / "many.jsonl")
    path = write_config(
        data=[
            {"train": "many.jsonl", "tasks": ["intent"]},
            {"train": "train.jsonl", "validation": "validation.jsonl", "tasks": ["slots"]},
        ]
    )
    config = RunConfig.from_file(path)
    by_rows, by_name = recommend_schedule(config), recommend_schedule(config, main_task="slots")
    assert {task.name: task.labeled_rows for task in by_rows.facts.tasks} == {"intent": 1320, "slots": 22}
    assert by_rows.preset == "none"
    for recommendation, decider in ((by_rows, "intent"), (by_name, "slots")):
        assert any(reason.rule.endswith(f"of {decider}") for reason in recommendation.reasons)
    written = yaml.safe_load(by_name.to_yaml(tmp_path))
    assert [data["train"] for data in written["data"]] == ["many.jsonl", "train.jsonl"]
    assert written["freeze"] == by_name.preset


def test_rare_labels_get_more_weight(write_config):
    rows = [*ROWS, *({"tokens": ["play", "music"], "intent": "PlayMusic", "slots": ["O", "O"]} for _ in range(60))]
    recommendation = recommend_schedule(RunConfig.from_file(write_config(rows)))
    intent, slots = recommendation.config.tasks
    assert (intent.class_weights, slots.class_weights) == ("balanced", None)
    assert any(reason.rule == "balance of intent" for reason in recommendation.reasons)
    assert recommend_schedule(RunConfig.from_file(write_config())).config.tasks[0].class_weights is None


def test_a_budget_that_is_too_small_is_an_error(write_config, capsys):
    assert main(["recommend", str(write_config()), "--time-budget", "1e-9"]) == 2
    error = capsys.readouterr().err
    assert re.search(
        r"nothing fits into 1e-09 minutes; the shortest run, .+, takes about [\d.e-]+ minutes on this machine", error
    )


@pytest.mark.parametrize("budget", ["0", "-3", "nan", "inf"])
def test_a_budget_is_a_number_of_minutes(budget, write_config, capsys):
    assert main(["recommend", str(write_config()), "--time-budget", budget]) == 2
    assert "time_budget must be a number of minutes above 0" in capsys.readouterr().err


def test_a_misspelled_task_or_domain_gets_the_closest_match(write_config):
    config = RunConfig.from_file(write_config())
    with pytest.raises(ValueError, match=r"unknown task 'slot'\. Did you mean 'slots'"):
        recommend_schedule(config, main_task="slot")
    with pytest.raises(ValueError, match=r"unknown domain 'bio-medical'\. Did you mean 'biomedical'"):
        recommend_schedule(config, domain="bio-medical")


def test_a_task_without_a_labeled_row_is_an_error(write_config):
    rows = [{**row, "intent": None} for row in ROWS]
    intents = ["PlayMusic", "GetWeather", "BookRestaurant", "RateBook"]
    tasks = [{**TASKS[0], "labels": intents, "problem_type": "single_label_classification"}]
    with pytest.raises(ValueError, match=r"train\.jsonl: task 'intent': no row has a label in column 'intent'"):
        recommend_schedule(RunConfig.from_file(write_config(rows, tasks=tasks)))
    # A stream is not scanned for labels if its tasks are complete.
    streamed = {"data": {"train": "train.jsonl", "streaming": True}, "training": {"max_steps": 9}}
    with pytest.raises(ValueError, match="task 'intent': no row of train has a label for it"):
        recommend_schedule(RunConfig.from_file(write_config(rows, tasks=tasks, **streamed)))


def test_the_encoder_of_a_domain_that_is_not_on_this_machine(write_config, monkeypatch, tmp_path):
    rows = [{"text": text, "intent": "ab"[i % 2]} for i, text in enumerate(TEXTS["legal"] * 4)]
    config = RunConfig.from_file(write_config(rows, encoder=MINILM, tasks=TASKS[:1], data={"train": "train.jsonl"}))
    offline = recommend_schedule(config)
    assert offline.encoder == OF_DOMAIN["legal"]
    assert not offline.encoder_is_here
    assert offline.config.encoder == MINILM, "the config runs here and now"
    assert "the hub is offline" in offline.conflicts[-1]
    run_plan(offline.config)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    online = recommend_schedule(config)
    assert online.config.encoder == OF_DOMAIN["legal"]
    assert online.config.training["learning_rate"] == pytest.approx(3.5e-5)
    assert "nlpaueb" in online.to_yaml(tmp_path)


def test_a_given_domain_replaces_detection(write_config):
    rows = [{"text": text, "intent": "ab"[i % 2]} for i, text in enumerate(TEXTS["legal"] * 4)]
    config = RunConfig.from_file(write_config(rows, encoder=MINILM, tasks=TASKS[:1], data={"train": "train.jsonl"}))
    assert recommend_schedule(config, domain="general").encoder == SMALL
    given = recommend_schedule(config, domain="finance")
    assert given.encoder == OF_DOMAIN["finance"]
    assert given.reasons[0].evidence == "the domain is given as finance"


def test_sizes_and_groups_of_known_encoders_match_their_weights(minilm):
    config = RunConfig.from_dict(
        {"encoder": MINILM, "tasks": TASKS[:1], "data": {"train": [{"text": "a", "intent": "x"}]}, "output_dir": "o"}
    )
    model = load_encoder(config)
    size = EncoderSize.of(MINILM, model.encoder.config, model.encoder.num_parameters())
    assert size.weights == pytest.approx(KNOWN[SMALL].weights, rel=0.01)
    assert (size.layers, size.cost) == (KNOWN[SMALL].layers, KNOWN[SMALL].cost)
    assert [group.name for group in layer_groups(model)] == [group.name for group in named_groups(KNOWN[SMALL], [])]


def test_encoders_on_this_machine(encoder):
    assert is_on_this_machine(MINILM)
    assert is_on_this_machine(str(encoder))
    assert not is_on_this_machine("nobody/no-such-encoder")


def test_rows_that_no_file_can_contain_are_an_error_when_written(write_config, tmp_path):
    import datasets

    config = RunConfig.from_file(write_config())
    config.data.train = datasets.Dataset.from_list(ROWS)
    recommendation = recommend_schedule(config)
    with pytest.raises(ValueError, match=r"data.train: expected a file, .* found Dataset"):
        recommendation.save(tmp_path / "recommended.yaml")


def test_an_encoder_that_cannot_be_divided_trains_as_a_whole_or_not_at_all(encoders, write_config):
    config = RunConfig.from_file(write_config(ROWS * 10, encoder=str(encoders["albert"])))
    recommendation = recommend_schedule(config)
    assert recommendation.preset in ("encoder", "heads-then-all", "none")
    assert [stage.name for stage in run_plan(recommendation.config)] == [
        stage.name for stage in recommendation.schedule.stages
    ]


def test_the_multilingual_encoder_for_another_language(write_config):
    rows = [{"text": text * 3, "intent": "ab"[i % 2]} for i, text in enumerate([OTHER_LANGUAGES["German"]] * 12)]
    config = RunConfig.from_file(write_config(rows, encoder=MINILM, tasks=TASKS[:1], data={"train": "train.jsonl"}))
    recommendation = recommend_schedule(config)
    assert recommendation.encoder == "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
    assert "function words of English" in recommendation.reasons[0].evidence


def test_current_encoders_of_about_the_size_are_named(write_config, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    config = write_config()
    recommendation = recommend_schedule(RunConfig.from_file(config))
    assert len(recommendation.alternatives) == 3
    assert {encoder.languages for encoder in recommendation.alternatives} == {ENGLISH}
    assert main(["recommend", str(config)]) == 0
    output = capsys.readouterr().out
    (line,) = (line for line in output.splitlines() if "also, not measured by us" in line)
    assert str(recommendation.alternatives[0]) in line
