"""A model on rows of several windows, against separate passes per window."""

import json
import resource

import numpy as np
import pytest
import torch

from hf_multitask import (
    MultiTaskDataCollator,
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    TaskConfig,
    load_tokenizer,
    prepare_datasets,
)
from hf_multitask.freezing.distillation import count_items, encode_sample
from hf_multitask.models.encoder_pooling import pool
from tests.predictions import predict
from tests.tiny import ARCHITECTURES, INTENTS, ROWS, SENTENCES

WORDS = [word for sentence in SENTENCES for word in sentence.split()]
TASKS = [
    TaskConfig("intent", "sequence_classification", labels=sorted(set(INTENTS))),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place", "B-x", "I-x"]),
]
LENGTH = {"max_length": 14, "overlap": 5}


def document(num_words, first=0):
    words = (WORDS[first:] + WORDS * (1 + num_words // len(WORDS)))[:num_words]
    tags = [("O", "B-place", "O", "B-x", "I-x")[i % 5] for i in range(num_words)]
    return {"tokens": words, "slots": tags, "intent": INTENTS[first % 7], "grade": first / 2}


DOCUMENTS = [ROWS[0] | {"grade": 1.0}, document(40), document(16, 3), document(90, 5), ROWS[3] | {"grade": 2.0}]


def eager(folder, pooling="mean"):
    """Return a model that predicts many tags, and its tokenizer."""
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(folder, TASKS, pooling=pooling).eval()
    for head in model.heads.values():
        torch.nn.init.normal_(head.classifier.weight, std=2.0)
    return model, load_tokenizer(folder)


def prepared(tokenizer, rows=DOCUMENTS, **length):
    return prepare_datasets({"train": rows}, tokenizer, TASKS, **(length or LENGTH))["train"]


def by_hand(model, row):
    """Compute the logits of a row with one pass per window."""
    start, states, logits, weights = 0, [], {"intent": 0, "grade": 0}, 0
    for length in row["window_lengths"]:
        window = slice(start, start + length)
        inputs = {name: torch.tensor([row[name][window]]) for name in ("input_ids", "attention_mask")}
        hidden = model.encoder(**inputs).last_hidden_state
        vector = pool(hidden, inputs["attention_mask"], model.config.pooling)
        for name in logits:
            logits[name] = logits[name] + length * model.heads[name](vector)[0]
        states += list(hidden[0])
        start, weights = start + length, weights + length
    logits = {name: value / weights for name, value in logits.items()}
    logits["slots"] = model.heads["slots"](torch.stack([states[i] for i in row["tag_positions"]]))
    return logits


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [*((name, "mean") for name in ARCHITECTURES), ("bert", "cls"), ("bert", "max")],
)
@torch.no_grad()
def test_logits_are_those_of_each_window_alone_whatever_else_is_in_the_batch(architecture, pooling, encoders):
    model, tokenizer = eager(encoders[architecture], pooling)
    rows = list(prepared(tokenizer))
    collate = MultiTaskDataCollator(tokenizer, TASKS)
    together, backwards = model(**collate(rows)).logits, model(**collate(rows[::-1])).logits
    assert [len(row["window_lengths"]) > 1 for row in rows][1:4] == [True, True, True]
    for i, row in enumerate(rows):
        expected = by_hand(model, row)
        alone = model(**collate([row])).logits
        for name, values in expected.items():
            for found in (together[name][i], backwards[name][-1 - i], alone[name][0]):
                found = found[: len(values)] if name == "slots" else found
                assert torch.allclose(found, values, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_encoding_in_parts_changes_nothing(encoders):
    model, tokenizer = eager(encoders["bert"])
    batch = MultiTaskDataCollator(tokenizer, TASKS)(list(prepared(tokenizer)))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    windows = len(batch["input_ids"])
    wanted = {"output_hidden_states": True, "output_attentions": True}
    model.set_attn_implementation("eager")
    whole = model.encoder(**inputs, **wanted)
    for size in (1, 3, windows - 1, windows, windows + 1):
        found = model._encode_in_chunks(inputs, wanted, size)
        assert torch.allclose(found.last_hidden_state, whole.last_hidden_state, atol=1e-6)
        for name in ("hidden_states", "attentions"):
            for one, other in zip(found[name], whole[name], strict=True):
                assert torch.allclose(one, other, atol=1e-6)
    assert model(**batch, **wanted).hidden_states[-1].shape == whole.last_hidden_state.shape


def test_memory_is_that_of_a_few_windows_where_nothing_is_trained(encoders):
    model, tokenizer = eager(encoders["bert"])
    batch = MultiTaskDataCollator(tokenizer, TASKS)(list(prepared(tokenizer, [document(600)])))
    sizes = []
    hook = model.encoder.register_forward_pre_hook(
        lambda _, __, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    with torch.no_grad():
        model(**batch)
    hook.remove()
    assert max(sizes) == 8
    assert sum(sizes) == len(batch["input_ids"]) > 60


def test_a_training_step_on_windows_reaches_every_weight_as_the_windows_alone_do(encoders):
    model, tokenizer = eager(encoders["bert"])
    rows = list(prepared(tokenizer))
    output = model(**MultiTaskDataCollator(tokenizer, TASKS)(rows))
    output.loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    losses = {"intent": [], "grade": [], "slots": []}
    for row in rows:
        logits, labels = by_hand(model, row), row["labels"]
        losses["intent"].append(torch.nn.functional.cross_entropy(logits["intent"], torch.tensor(labels["intent"])))
        losses["grade"].append(((logits["grade"] - torch.tensor(labels["grade"])) ** 2).sum())
        each = torch.nn.functional.cross_entropy(logits["slots"], torch.tensor(labels["slots"]), reduction="none")
        losses["slots"] += list(each)
    loss = sum(torch.stack(values).mean() for values in losses.values())
    loss.backward()
    assert output.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    for name, weight in model.named_parameters():
        assert torch.allclose(found[name], weight.grad, atol=1e-4, rtol=1e-3), name
        assert found[name].abs().sum() > 0 or "key.bias" in name, name


def make_trainer(model, tokenizer, rows, folder, schedule=None, **arguments):
    defaults = {"per_device_train_batch_size": 2, "max_steps": 4, "report_to": "none", "save_strategy": "no"}
    args = MultiTaskTrainingArguments(output_dir=str(folder), **{**defaults, **arguments})
    return MultiTaskTrainer(
        model=model,
        args=args,
        freeze_schedule=schedule,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
    )


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_trainer_and_predict_agree_on_a_long_document(architecture, encoders, tmp_path):
    model, tokenizer = eager(encoders[architecture])
    documents = [ROWS[0] | {"grade": 1.0}, document(300), document(40, 4)]
    data = prepare_datasets({"train": documents}, tokenizer, TASKS)["train"]
    scores = []
    for batch_size in (1, 2, 8):
        trainer = make_trainer(model, tokenizer, data, tmp_path, per_device_eval_batch_size=batch_size)
        output = trainer.predict(data)
        scores.append(output.metrics["test_loss"])
        ids, gold = output.predictions["slots"]["ids"], output.label_ids["slots"]
        predictions = predict(model, tokenizer, documents, batch_size=batch_size)
        for i, (row, prediction) in enumerate(zip(documents, predictions, strict=True)):
            words = len(row["tokens"])
            assert (gold[i] != -100).sum() == len(prediction["slots"]["labels"]) == words
            assert [TASKS[2].labels[tag] for tag in ids[i][:words]] == prediction["slots"]["labels"]
            assert TASKS[0].labels[output.predictions["intent"]["ids"][i]] == prediction["intent"]["label"]
            value = prediction["grade"]["value"]
            assert output.predictions["grade"]["ids"][i][0] == pytest.approx(value, abs=1e-4)
        assert len({tag for prediction in predictions for tag in prediction["slots"]["labels"]}) > 2
    assert scores == pytest.approx([scores[0]] * 3, rel=1e-5)


@pytest.mark.parametrize(("accumulation", "rows_taken"), [(1, 8 * 5 + 2), (2, 12 * 5 + 4)])
def test_the_trainer_trains_on_windows_and_counts_rows(accumulation, rows_taken, encoders, tmp_path):
    model, tokenizer = eager(encoders["bert"])
    rows = prepared(tokenizer)
    trainer = make_trainer(
        model,
        tokenizer,
        rows,
        tmp_path,
        max_steps=25,
        learning_rate=1e-2,
        logging_steps=5,
        gradient_accumulation_steps=accumulation,
    )
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    for task in ("intent", "slots"):
        assert sum(log.get(f"{task}_rows", 0) for log in trainer.state.log_history) == rows_taken


def test_rows_and_words_are_counted_not_windows(encoders):
    _, tokenizer = eager(encoders["bert"])
    batch = MultiTaskDataCollator(tokenizer, TASKS)(list(prepared(tokenizer)))
    assert count_items(TASKS[0], batch) == 5
    assert count_items(TASKS[2], batch) == sum(len(row["tokens"]) for row in DOCUMENTS)
    short = MultiTaskDataCollator(tokenizer, TASKS)(list(prepared(tokenizer, DOCUMENTS[::4] * 2, max_length=40)))
    assert "row_windows" not in short
    assert count_items(TASKS[0], short) == 4


def test_the_sample_for_drift_has_the_states_of_every_window(encoders):
    model, tokenizer = eager(encoders["bert"])
    batch = MultiTaskDataCollator(tokenizer, TASKS)(list(prepared(tokenizer)))
    assert len(batch["input_ids"]) > 8
    sample = encode_sample(model, batch)
    assert len(sample["pooled"]) == len(batch["input_ids"])
    assert len(sample["tokens"]) == batch["attention_mask"].sum()


def test_a_protected_head_is_held_on_rows_with_windows(encoders, tmp_path):
    model, tokenizer = eager(encoders["bert"])
    schedule = {
        "stages": [{"steps": 2}, {"freeze": ["head.slots", "head.intent"]}],
        "protect": {task: {"distill": 1.0} for task in ("slots", "intent")},
    }
    trainer = make_trainer(
        model,
        tokenizer,
        prepared(tokenizer),
        tmp_path,
        schedule,
        max_steps=5,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        learning_rate=1e-3,
    )
    trainer.train()
    history = trainer.state.log_history
    for task in ("slots", "intent"):
        distances = [log[f"{task}_distill_loss"] for log in history if f"{task}_distill_loss" in log]
        assert len(distances) == 3
        assert np.isfinite(distances).all()
    drifts = [log["eval_drift_tokens"] for log in history if "eval_drift_tokens" in log]
    assert drifts
    assert np.isfinite(drifts).all()


@pytest.mark.slow
def test_a_document_of_100_000_words_has_100_000_labels(encoders):
    model, tokenizer = eager(encoders["bert"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = document(100_000)
    prediction = predict(model, tokenizer, [json.loads(json.dumps(row))])[0]
    assert len(prediction["slots"]["labels"]) == 100_000
    joined = " ".join(row["tokens"])
    assert all(joined[e["start"] : e["end"]] == e["text"] for e in prediction["slots"]["entities"])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1_000_000  # KiB: states and logits of all words, but the activations of a few windows
