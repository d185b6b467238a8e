"""Stored states are those that heads read in a model."""

import pytest
import torch
from torch import nn

from hf_multitask import MultiTaskDataCollator, MultiTaskModel, prepare_datasets
from hf_multitask.models.decoding import decode
from hf_multitask.models.encoder_loading import load_tokenizer
from hf_multitask.models.layer_groups import layer_groups
from hf_multitask.probing.gradients import gradient_ratios
from hf_multitask.probing.heads import fit_heads, linear_task, score_heads
from hf_multitask.probing.states import collect_states
from hf_multitask.training.metrics import task_metrics
from tests.tiny import ARCHITECTURES, ROWS


@pytest.fixture(params=ARCHITECTURES)
def parts(request, encoders, tasks):
    return make_parts(encoders[request.param], tasks)


def make_parts(encoder, tasks, **options):
    tokenizer = load_tokenizer(encoder)
    data = prepare_datasets({"train": ROWS}, tokenizer, tasks, label_subwords="first", **options)
    tasks = [linear_task(task) for task in data.tasks]
    model = MultiTaskModel.from_encoder(encoder, tasks).eval()
    return model, data["train"], MultiTaskDataCollator(tokenizer, tasks), tasks


def check_top(model, rows, collator, tasks):
    """Compare what a head says on the last of the stored states with what the model says."""
    states = collect_states(model, rows, collator, tasks)
    assert [task.name for task in tasks] == ["intent", "slots"]
    batch = collator(rows.__getitems__(list(range(len(rows)))))
    with torch.no_grad():
        expected = model(**batch).logits
        torch.testing.assert_close(model.heads["intent"](states.texts[-1]), expected["intent"], atol=1e-4, rtol=1e-4)
        found = model.heads["slots"](states.words[-1])
    torch.testing.assert_close(found, expected["slots"][states.is_word], atol=1e-4, rtol=1e-4)


def test_the_last_depth_enters_the_heads(parts):
    check_top(*parts)


def test_the_last_depth_of_texts_in_windows(encoder, tasks):
    check_top(*make_parts(encoder, tasks, max_length=8, overlap=2))


def test_heads_score_as_in_a_model(encoder, tasks):
    model, rows, collator, tasks = make_parts(encoder, tasks)
    states = collect_states(model, rows, collator, tasks)
    batch = collator(rows.__getitems__(list(range(len(rows)))))
    for task in tasks:
        heads = fit_heads(task, states, 0)
        model.heads[task.name] = heads[-1]
        with torch.no_grad():
            logits = model(**batch, tasks=[task.name]).logits[task.name]
        ids = decode(task, logits, batch["tag_positions"]).numpy()
        name = "f1" if task.is_token_task else "accuracy"
        expected = task_metrics(task, ids, batch["labels"][task.name].numpy())[name]
        assert score_heads(task, heads, states)[-1] == pytest.approx(expected)
        assert expected > 0.5


def test_gradients_of_passes_are_those_of_all_rows(encoder, tasks, monkeypatch):
    model, rows, collator, tasks = make_parts(encoder, tasks)
    for task in tasks:
        nn.init.normal_(model.heads[task.name].classifier.weight)
    batch = collator(rows.__getitems__(list(range(len(rows)))))
    monkeypatch.setattr("hf_multitask.probing.gradients.TOKENS_PER_PASS", 40)
    for task in tasks:
        model.zero_grad()
        model(**batch, tasks=[task.name]).losses[task.name].backward()
        found = gradient_ratios(model, [rows[i] for i in range(len(rows))], collator, task)
        for group in layer_groups(model):
            if group.is_head:
                continue
            weights = group.parameters.values()
            gradient = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None]).norm()
            size = torch.cat([weight.detach().flatten() for weight in weights]).norm()
            assert found[group.name] == pytest.approx((gradient / size).item(), rel=1e-4)
