"""Model cards: their content, and that it is true."""

import json
import runpy
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hf_multitask import DataConfig, MultiTaskModel, RunConfig, TaskConfig, prepare_datasets, run_training
from hf_multitask.models.hub_card import build_model_card
from hf_multitask.models.hub_card_metadata import TrainingFacts
from hf_multitask.runs.output_dir import read_metrics
from tests.conftest import MINILM
from tests.hub.server import metadata_errors
from tests.tiny import ROWS
from tests.trainers import make_trainer

TEXTS = [{"text": " ".join(row["tokens"]), "intent": row["intent"]} for row in ROWS]


def card_in(folder):
    return ModelCard.load(Path(folder, "README.md"))


@pytest.fixture(scope="module")
def run_folder(encoder, write_jsonl, tmp_path_factory):
    """Return the output directory of a run with a schedule."""
    folder = tmp_path_factory.mktemp("run")
    rows = {"train": ROWS, "validation": ROWS[:9], "test": ROWS[9:]}
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {split: str(write_jsonl(part, folder / f"{split}.jsonl")) for split, part in rows.items()},
        "freeze": "heads-then-all",
        "training": {"num_train_epochs": 3, "learning_rate": 1e-2, "per_device_train_batch_size": 4},
        "output_dir": str(folder / "out"),
    }
    run_training(RunConfig.from_dict(values))
    return folder / "out"


def test_the_card_of_a_run_has_its_scores_in_the_hubs_form(run_folder):
    card, metrics = card_in(run_folder), read_metrics(run_folder)
    results = {
        (result.metric_name, result.dataset_split): (result.task_type, result.metric_type, result.metric_value)
        for result in card.data.eval_results
    }
    assert len(results) == 2 * 6
    for split, scores in metrics.items():
        assert results["intent_accuracy", split] == ("text-classification", "accuracy", scores["intent_accuracy"])
        assert results["intent_macro_f1", split] == ("text-classification", "f1", scores["intent_macro_f1"])
        assert results["slots_recall", split] == ("token-classification", "recall", scores["slots_recall"])
        assert results["slots_f1", split] == ("token-classification", "f1", scores["slots_f1"])
    assert {result.dataset_name for result in card.data.eval_results} == {"validation.jsonl", "test.jsonl"}
    for name in metrics["test"]:
        scores = " | ".join(f"{metrics[split][name]:.4f}" for split in ("validation", "test"))
        assert f"\n| {name} | {scores} |\n" in card.text
    assert metadata_errors(card.content) == []


def test_the_card_of_a_run_has_data_and_stages(run_folder):
    card, stages = card_in(run_folder), json.loads((run_folder / "stages.json").read_text())["stages"]
    assert (
        "\n| train | train.jsonl | 22 |\n| validation | validation.jsonl | 9 |\n| test | test.jsonl | 13 |\n"
        in card.text
    )
    assert "| trains | head.intent, head.slots | embeddings, encoder.0-2, head.intent, head.slots |" in card.text
    best = " | ".join(f"{stage['best']['slots_f1']:.4f}" for stage in stages)
    assert f"| best slots_f1 | {best} |" in card.text
    assert "| slots | token_classification | 3: O, B-place, I-place |" in card.text
    assert str(run_folder.parent) not in card.content


def test_both_snippets_of_the_card_run(run_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(run_folder)
    blocks = card_in(run_folder).text.split("```python\n")[1:]
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        program = tmp_path / f"snippet{number}.py"
        program.write_text(block.split("```")[0], encoding="utf-8")
        runpy.run_path(str(program))
        assert "'intent': {'label':" in capsys.readouterr().out


def test_the_examples_are_short_texts_of_the_training_rows(tokenizer):
    intent = TaskConfig("intent", "sequence_classification")
    rows = [{"text": "word " * 30, "intent": "PlayMusic"}, *TEXTS[:1], *TEXTS]
    origin = prepare_datasets({"train": rows}, tokenizer, [intent]).origin
    assert origin.examples == [row["text"] for row in TEXTS[:3]]
    slots = TaskConfig("slots", "token_classification")
    both = [DataConfig(train=TEXTS, tasks=["intent"]), DataConfig(train=ROWS[3:], tasks=["slots"])]
    words = [" ".join(row["tokens"]) for row in ROWS]
    assert prepare_datasets(both, tokenizer, [intent, slots]).origin.examples == [words[0], words[3], words[1]]


def test_a_stream_has_examples_and_its_file(tokenizer, tasks, write_jsonl):
    path = write_jsonl(ROWS)
    origin = prepare_datasets({"train": str(path)}, tokenizer, tasks, streaming=True).origin
    assert origin.sources == {"train": ["rows.jsonl"]}
    assert origin.examples == [" ".join(row["tokens"]) for row in ROWS[:3]]


def test_a_share_of_train_is_named_as_one(tokenizer, tasks, write_jsonl):
    data = prepare_datasets({"train": str(write_jsonl(ROWS * 3))}, tokenizer, tasks, validation_split=0.25)
    assert data.origin.sources == {"train": ["rows.jsonl"], "validation": ["25% of rows.jsonl"]}


def test_a_data_set_of_the_hub_is_in_the_metadata(model):
    source = "ann/intents (split test)"
    facts = TrainingFacts(
        {"test": {"intent_accuracy": 0.5}}, {"test": [source]}, {"test": 10}, ["ann/intents"], stages=[]
    )
    card = build_model_card(model.config, "ann/model", facts)
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.dataset_name) == ("ann/intents", source)
    assert card.data.datasets == ["ann/intents"]
    assert f"| test | {source} | 10 |" in card.text


def test_what_is_not_known_is_left_out(model):
    card = build_model_card(model.config, "ann/model")
    for key in ("language", "license", "datasets", "widget", "model-index", "base_model"):
        assert key not in card.data.to_dict()
    assert "The license of the encoder bert is not known" in card.text
    assert "None were measured" in card.text
    assert "## Freezing" not in card.text
    assert "## Data" not in card.text


def test_the_licence_is_the_encoders_own(data):
    config = MultiTaskModel.from_encoder(MINILM, data.tasks).config
    card = build_model_card(config, "ann/model")
    assert card.data.license == "apache-2.0"
    assert card.data.base_model == MINILM
    assert f"The encoder {MINILM} is under `apache-2.0`, according to its own card." in card.text
    other = build_model_card(config, "ann/model", license="mit", tags="mine")
    assert other.data.license == "mit"
    assert "This model is under `mit`. The encoder" in other.text
    assert other.data.tags == ["multi-task", "transformers", "text-classification", "token-classification", "mine"]


def test_the_trainers_card_has_the_scores_of_the_best_step(model, data, tokenizer, tmp_path):
    arguments = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "intent_loss", "greater_is_better": True}
    trainer = make_trainer(
        model, data, tokenizer, tmp_path, None, learning_rate=1e-2, max_steps=8, **arguments, **best
    )
    trainer.train()
    assert trainer.state.best_global_step < 8
    trainer.create_model_card()
    found = {result.metric_name: result.metric_value for result in card_in(tmp_path).data.eval_results}
    assert {result.dataset_split for result in card_in(tmp_path).data.eval_results} == {"validation"}
    metrics = trainer.evaluate(metric_key_prefix="test")
    assert found["intent_accuracy"] == metrics["test_intent_accuracy"]
    assert f"| intent_loss | {metrics['test_intent_loss']:.4f} |" in card_in(tmp_path).text
    trainer.create_model_card(language="en", model_name="Intents", data=data)
    card = card_in(tmp_path)
    assert {result.dataset_split for result in card.data.eval_results} == {"validation", "test"}
    assert card.data.language == "en"
    assert card.text.strip().startswith("# Intents\n")
    assert len(card.data["widget"]) == 3


def test_the_trainers_card_takes_the_arguments_of_transformers(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path)
    trainer.create_model_card(
        "en",
        "mit",
        "mine",
        "Intents",
        finetuned_from="ann/encoder",
        tasks="intent-detection",
        dataset_tags=["ann/rows", "bob/rows"],
        dataset=["rows of Ann", "rows of Bob"],
        dataset_args="split=train",
    )
    card = card_in(tmp_path)
    assert card.data.base_model == "ann/encoder"
    assert card.data.datasets == ["ann/rows", "bob/rows"]
    assert card.data.tags[-2:] == ["intent-detection", "mine"]
    assert "rows of Ann split=train, rows of Bob |" in card.text


def test_the_token_is_in_no_file_of_a_run(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, None, hub_token="hf_secret", max_steps=1)
    trainer.save_model()
    assert b"hf_secret" not in (tmp_path / "training_args.bin").read_bytes()
    assert trainer.args.hub_token == "hf_secret"
