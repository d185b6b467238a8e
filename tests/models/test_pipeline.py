"""The multi-task pipeline: inputs, outputs, and use without the package."""

import json
import os
import random
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import datasets
import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from hf_multitask import MultiTaskModel, MultiTaskPipeline, TaskConfig, load_tokenizer
from hf_multitask.models.pipeline_multitask import MAX_PREDICTORS
from hf_multitask.models.text_words import split_words
from tests.comparison import approximately
from tests.tiny import SENTENCES

TASKS = [
    TaskConfig(
        "intent", "sequence_classification", labels=["a", "b", "c"], problem_type="single_label_classification"
    ),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"]),
    TaskConfig("parts", "token_classification", labels=["O", "B-z", "I-z"]),
]
LONG = " ".join(SENTENCES * 4)


@pytest.fixture(scope="module")
def folder(encoders, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    model = MultiTaskModel.from_encoder(encoders["bert"], TASKS)
    for head in model.heads.values():
        torch.nn.init.normal_(head.classifier.weight, std=2.0)
    model.save_pretrained(folder)
    load_tokenizer(encoders["bert"]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipe(folder):
    return pipeline("multi-task", model=str(folder))


def test_options_of_callers_do_not_fill_the_memory(pipe):
    for i in range(3 * MAX_PREDICTORS):
        pipe("play jazz", threshold=i / 1000)
    assert len(pipe._predictors) <= MAX_PREDICTORS
    assert pipe.predictor(top_k=2).options.top_k == 2


def test_one_pass_of_the_encoder_gives_all_tasks(pipe):
    passes = []
    hook = pipe.model.encoder.register_forward_hook(lambda *_: passes.append(1))
    result = pipe(SENTENCES[0])
    hook.remove()
    assert passes == [1]
    assert list(result) == [task.name for task in TASKS]
    assert result["intent"].keys() == {"label", "score"}
    assert result["topics"].keys() == {"labels", "scores"}
    assert result["grade"].keys() == {"value"}
    assert result["slots"].keys() == {"entities"}


def test_entities_are_slices_of_the_callers_text(pipe):
    texts = ["Ärger  in\tNew York,\u200b morgen!", "שלום עולם טוב", "e\u0301a\u0301 o\u0302\u0323 na\u0308he", LONG]
    found = 0
    for text, result in zip(texts, pipe(texts), strict=True):
        for entity in result["slots"]["entities"]:
            found += 1
            assert entity.keys() == {"label", "start", "end", "text", "score"}
            assert text[entity["start"] : entity["end"]] == entity["text"] != ""
    assert found > 10


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_results_do_not_depend_on_batches_or_order(pipe, batch_size):
    texts = [*SENTENCES, LONG, *SENTENCES[:5], "a", "play"]
    expected = [pipe(text, batch_size=1) for text in texts]
    assert pipe(texts, batch_size=batch_size) == approximately(expected, abs=1e-5)
    shuffled = random.Random(0).sample(range(len(texts)), len(texts))
    again = pipe([texts[i] for i in shuffled], batch_size=batch_size)
    assert again == approximately([expected[i] for i in shuffled], abs=1e-5)


def test_every_kind_of_input_gives_the_same(pipe):
    expected = pipe(SENTENCES)
    assert pipe({"text": SENTENCES[0]}) == pipe(SENTENCES[0])
    assert pipe(tuple(SENTENCES)) == expected
    column = datasets.Dataset.from_dict({"text": SENTENCES})["text"]
    for inputs in ((text for text in SENTENCES), column, datasets.Dataset.from_dict({"text": SENTENCES})):
        results = pipe(inputs)
        assert not isinstance(results, list)
        assert list(results) == expected
    words = [[word.text for word in split_words(text)] for text in SENTENCES]
    assert pipe([{"tokens": row, "text": text} for row, text in zip(words, SENTENCES, strict=True)]) == expected
    in_words = pipe([{"tokens": row} for row in words])
    assert pipe(words, is_split_into_words=True) == in_words
    assert pipe(words[0], is_split_into_words=True) == approximately(in_words[0], abs=1e-5)
    for row, one, other in zip(words, in_words, expected, strict=True):
        assert one["intent"] == other["intent"]
        assert [found["score"] for found in one["slots"]["entities"]] == [
            found["score"] for found in other["slots"]["entities"]
        ]
        for entity in one["slots"]["entities"]:
            assert " ".join(row)[entity["start"] : entity["end"]] == entity["text"]
    assert pipe([]) == []


def test_a_generator_is_read_as_predictions_are_taken(pipe):
    read = []

    def endless():
        while True:
            read.append(1)
            yield SENTENCES[len(read) % len(SENTENCES)]

    results = pipe(endless(), batch_size=2)
    assert not read
    next(results)
    assert len(read) == 2 * 64


def test_only_the_heads_asked_for_run(pipe):
    ran = []
    hooks = [
        head.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, head in pipe.model.heads.items()
    ]
    result = pipe(SENTENCES[:2], tasks=["slots", "grade"])
    for hook in hooks:
        hook.remove()
    assert ran == ["grade", "slots"]
    assert [list(row) for row in result] == [["slots", "grade"]] * 2
    everything = pipe(SENTENCES[:2])
    assert result == [{name: row[name] for name in ("slots", "grade")} for row in everything]


def test_options(pipe, folder):
    text = SENTENCES[0]
    best = pipe(text)["intent"]
    ranked = pipe(text, top_k=3)["intent"]
    assert ranked[0] == best
    assert [row["score"] for row in ranked] == sorted((row["score"] for row in ranked), reverse=True)
    assert {row["label"] for row in ranked} == {"a", "b", "c"}
    assert sum(row["score"] for row in ranked) == pytest.approx(1)
    assert len(pipe(text, top_k=2)["intent"]) == len(pipe(text, top_k=9)["topics"]) == 2
    scores = {row["label"]: row["score"] for row in pipe(text, top_k=2)["topics"]}
    for threshold in (0.0, 0.3, 0.7, 1.0):
        found = pipe(text, threshold=threshold)["topics"]
        assert dict(zip(found["labels"], found["scores"], strict=True)) == {
            label: pytest.approx(score) for label, score in scores.items() if score > threshold
        }
    words = pipe(text, word_labels=True)["slots"]
    assert words["words"] == text.split()
    assert len(words["labels"]) == len(words["words"])
    bioes = pipe(text, word_labels=True, tag_scheme="BIOES")["slots"]
    assert bioes["labels"] != words["labels"]
    assert bioes["entities"] == words["entities"]
    built = pipeline("multi-task", model=str(folder), tasks=["intent"], top_k=2, batch_size=2)
    assert built(text) == {"intent": pipe(text, top_k=2)["intent"]}
    assert built(text, tasks=["grade"]) == {"grade": pipe(text)["grade"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["slot"]}, "Did you mean 'slots'"),
        ({"tasks": "slots"}, "tasks: expected a list of strings or nothing, found 'slots'"),
        ({"top": 3}, "Did you mean 'top_k'"),
        ({"top_k": 0}, "top_k must be at least 1, found 0"),
        ({"top_k": "all"}, "top_k: expected a whole number or nothing, found 'all'"),
        ({"threshold": 2}, r"threshold must be a number in \[0, 1\], found 2"),
        ({"tag_scheme": "IOB3"}, "IOB2"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1, found 0"),
    ],
)
def test_a_wrong_option_is_named(pipe, options, message):
    with pytest.raises(ValueError, match=message):
        pipe("play", **options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("", "'text' is empty"),
        (" \n\t", "'text' is empty"),
        (None, "expected a text, or a mapping with 'text' or 'tokens', found None"),
        (3, "found 3"),
        (["play", "it"], "words are given as tokens or with is_split_into_words=True"),
        ({"sentence": "play"}, "expected a column 'tokens' or 'text', found 'sentence'"),
        ({"tokens": []}, "'tokens' is empty"),
        ({"tokens": ["play", 3]}, "'tokens' must be a list of strings"),
        ({"text": "play", "tokens": ["stop"]}, "'stop', does not occur in `text`"),
        ("cut \ud83d", "half of a surrogate pair"),
    ],
)
def test_a_wrong_input_is_named(pipe, wrong, message):
    with pytest.raises(ValueError, match=message) as error:
        pipe(["play", wrong])
    assert str(error.value).startswith("input 1: ")
    with pytest.raises(ValueError, match="input 1: "):
        list(pipe(text for text in ["play", wrong]))


def test_odd_texts_have_answers(pipe):
    texts = ["x" * 1_000_000, "\u200b", "\u0301", "👩‍👩‍👧", "\x00", "a\ufeffb", "ﷺ", "ا" * 300]
    for text, result in zip(texts, pipe(texts), strict=True):
        assert result["intent"]["label"] in {"a", "b", "c"}
        for entity in result["slots"]["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["text"]


def test_another_model_is_refused(encoders):
    with pytest.raises(ValueError, match="expected a multi-task model, found a model of type 'bert'"):
        pipeline("multi-task", model=str(encoders["bert"]))
    stock = AutoModelForSequenceClassification.from_pretrained(encoders["bert"])
    with pytest.raises(ValueError, match="found a model of type 'bert'"):
        MultiTaskPipeline(stock, load_tokenizer(encoders["bert"]))


def test_bfloat16_gives_the_same_form(folder):
    half = pipeline("multi-task", model=str(folder), dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert [list(row) for row in half(SENTENCES)] == [[task.name for task in TASKS]] * len(SENTENCES)


ALONE = """
import importlib.util, json, sys
assert importlib.util.find_spec("hf_multitask") is None
from transformers import pipeline
folder, copy, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
try:
    pipeline("multi-task", model=folder)
except ValueError as error:
    assert "trust_remote_code=True" in str(error), error
else:
    raise SystemExit("code of a model ran without trust_remote_code")
pipe = pipeline("multi-task", model=folder, trust_remote_code=True)
assert type(pipe).__module__.startswith("transformers_modules")
pipe.save_pretrained(copy)
json.dump(pipe(texts), open(copy + ".json", "w"))
"""


def test_a_model_of_an_earlier_version_answers_as_before(pipe, folder, tmp_path):
    model = copytree(folder, tmp_path / "old")
    config = json.loads((model / "config.json").read_text())
    newer = (
        "temperature",
        "abstain",
        "out_of_scope",
        "outlier_weight",
        "min_score",
        "entity_precision",
        "private_layers",
    )
    for task in config["tasks"]:
        for name in newer:
            del task[name]
    (model / "config.json").write_text(json.dumps(config))
    assert pipeline("multi-task", model=str(model))([*SENTENCES, LONG]) == pipe([*SENTENCES, LONG])


def answer_alone(source, copy, texts, tmp_path):
    """Return the answers of a saved model where this package is not installed, and save it from there."""
    # -S skips the .pth files of the environment, through which an editable package is found.
    paths = {"PYTHONPATH": sysconfig.get_path("purelib"), "HF_MODULES_CACHE": str(tmp_path / "code")}
    options = {"env": {**os.environ, **paths}, "cwd": tmp_path, "capture_output": True, "text": True}
    run = subprocess.run([sys.executable, "-S", "-c", ALONE, source, copy, json.dumps(texts)], **options)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(Path(f"{copy}.json").read_text())


@pytest.mark.parametrize("method", ["mahalanobis", "knn"])
def test_a_model_that_abstains_by_distances_stands_alone(method, encoder, tmp_path):
    values = {"problem_type": "single_label_classification", "abstain": {"method": method}}
    task = TaskConfig("intent", "sequence_classification", labels=["a", "b"], **values)
    model = MultiTaskModel.from_encoder(encoder, [task])
    model.scope_statistics["intent"].fit(torch.randn(8, model.config.hidden_size), torch.arange(8) % 2)
    inputs = load_tokenizer(encoder)(SENTENCES, return_tensors="pt", padding=True)
    with torch.no_grad():
        statistics = model.eval()(**inputs).logits["intent.scope"]
    stored = 8 if method == "knn" else 0
    fitted = {"threshold": statistics.median().item(), "scale": statistics.std().item(), "stored": stored}
    model.config.tasks[0].abstain |= fitted
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(encoder).save_pretrained(tmp_path / "model")
    expected = pipeline("multi-task", model=str(tmp_path / "model"))(SENTENCES)
    assert {row["intent"]["label"] is None for row in expected} == {True, False}
    found = answer_alone(tmp_path / "model", tmp_path / "copy", SENTENCES, tmp_path)
    assert found == approximately(expected, abs=1e-4)


def test_a_model_with_private_layers_stands_alone(encoder, tmp_path):
    tasks = [replace(task, private_layers=1) if task.is_token_task else task for task in TASKS]
    model = MultiTaskModel.from_encoder(encoder, tasks)
    for weight in model.private_layers.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(encoder).save_pretrained(tmp_path / "model")
    expected = pipeline("multi-task", model=str(tmp_path / "model"))(SENTENCES)
    found = answer_alone(tmp_path / "model", tmp_path / "copy", SENTENCES, tmp_path)
    assert found == approximately(expected, abs=1e-4)


def test_a_saved_model_stands_alone_without_this_package(pipe, folder, tmp_path):
    texts = [*SENTENCES, LONG]
    scores = sorted(entity["score"] for row in pipe(texts) for entity in row["slots"]["entities"])
    least = scores[len(scores) // 2] - 1e-3
    model = copytree(folder, tmp_path / "zero")
    config = json.loads((model / "config.json").read_text())
    for task in config["tasks"]:
        task["min_score"] = least if task["type"] == "token_classification" else None
    (model / "config.json").write_text(json.dumps(config))
    expected = pipe(texts, min_score=least)
    assert expected != pipe(texts)
    for source, copy in ((model, tmp_path / "one"), (tmp_path / "one", tmp_path / "two")):
        assert answer_alone(source, copy, texts, tmp_path) == approximately(expected, abs=1e-5)
    # Saved again by its remote code, the model is complete; with this package installed, that code is not used.
    again = pipeline("multi-task", model=str(tmp_path / "two"))
    assert type(again) is MultiTaskPipeline
    assert again(texts) == approximately(expected, abs=1e-5)


def test_what_trains_is_not_imported_by_those_who_only_predict():
    tell = (
        "; import sys; print([name for name in ('datasets', 'evaluate', 'sklearn', 'scipy') if name in sys.modules])"
    )
    ours, theirs = (
        subprocess.run([sys.executable, "-c", code + tell], capture_output=True, text=True, check=True).stdout
        for code in ("import hf_multitask", "from transformers import AutoModel, pipeline")
    )
    assert "evaluate" not in ours
    assert ours == theirs
