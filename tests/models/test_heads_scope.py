"""Distances of pooled states from training texts, compared with their definitions."""

import json

import numpy as np
import pytest
import torch
from transformers import pipeline

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.heads_scope import MAX_STORED, Mahalanobis, NearestNeighbors, build_statistic
from hf_multitask.models.loading import load_model
from tests.tiny import SENTENCES


def intent(method, **values):
    return TaskConfig(
        "intent",
        "sequence_classification",
        ["a", "b", "c"],
        problem_type="single_label_classification",
        abstain={"method": method, **values},
    )


@pytest.fixture
def rows():
    labels = torch.arange(60) % 2
    return torch.randn(60, 4) @ torch.randn(4, 4) + 3 * labels.unsqueeze(1), labels


def test_mahalanobis_is_the_distance_to_the_nearest_mean_under_the_shared_covariance(rows):
    states, labels = rows
    statistic = Mahalanobis(intent("mahalanobis"), 4)
    # The label c has no row.
    statistic.fit(states, labels)
    texts = torch.randn(5, 4)
    x, means = states.double().numpy(), [states[labels == i].double().mean(0).numpy() for i in range(2)]
    centered = x - np.stack(means)[labels.numpy()]
    covariance = centered.T @ centered / len(x)
    covariance += np.eye(4) * 1e-3 * covariance.diagonal().mean()
    inverse = np.linalg.inv(covariance)
    expected = [max(-(t - m) @ inverse @ (t - m) for m in means) for t in texts.double().numpy()]
    assert statistic(texts).tolist() == pytest.approx(expected, rel=1e-3)


def test_fewer_rows_than_directions_have_a_distance():
    statistic = Mahalanobis(intent("mahalanobis"), 16)
    statistic.fit(torch.randn(6, 16), torch.arange(6) % 3)
    assert statistic(torch.randn(4, 16)).isfinite().all()


@pytest.mark.parametrize("neighbors", [1, 3, 1000])
def test_the_distance_to_the_kth_neighbor_of_normalized_states(rows, neighbors):
    states, labels = rows
    statistic = NearestNeighbors(intent("knn", neighbors=neighbors), 4)
    assert statistic(states[:2]).tolist() == [0, 0]
    statistic.fit(states, labels)
    assert len(statistic.index) == 60
    texts = torch.randn(5, 4)
    unit = states / states.norm(dim=1, keepdim=True)
    distances = torch.cdist(texts / texts.norm(dim=1, keepdim=True), unit).sort(dim=1).values
    assert statistic(texts).tolist() == pytest.approx((-distances[:, min(neighbors, 60) - 1]).tolist(), abs=1e-3)


def test_the_number_of_stored_texts_is_bounded():
    statistic = NearestNeighbors(intent("knn"), 2)
    statistic.fit(torch.randn(2 * MAX_STORED, 2), torch.zeros(2 * MAX_STORED, dtype=torch.long))
    assert len(statistic.index) == MAX_STORED


@pytest.mark.parametrize("method", ["mahalanobis", "knn"])
def test_statistics_are_saved_with_the_model(method, encoder, tmp_path):
    model = MultiTaskModel.from_encoder(encoder, [intent(method)]).eval()
    statistic = model.scope_statistics["intent"]
    statistic.fit(torch.randn(9, model.config.hidden_size), torch.arange(9) % 3)
    if method == "knn":
        model.config.tasks[0].abstain = {**model.config.tasks[0].abstain, "stored": 9}
    values = model.config.tasks[0].abstain
    model.config.tasks[0].abstain = {**values, "threshold": -1e9}
    model.save_pretrained(tmp_path)
    load_tokenizer(encoder).save_pretrained(tmp_path)
    loaded, _ = load_model(tmp_path)
    for name, value in statistic.state_dict().items():
        assert torch.equal(loaded.scope_statistics["intent"].state_dict()[name], value)
    assert "heads_scope.py" in {path.name for path in tmp_path.iterdir()}
    answers = pipeline("multi-task", model=str(tmp_path))(SENTENCES)
    assert all(row["intent"]["label"] == row["intent"]["best_label"] for row in answers)
    # Another threshold rejects all of them.
    config = json.loads((tmp_path / "config.json").read_text())
    config["tasks"][0]["abstain"]["threshold"] = 1.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    answers = pipeline("multi-task", model=str(tmp_path))(SENTENCES)
    assert [row["intent"]["label"] for row in answers] == [None] * len(SENTENCES)


def test_a_head_gets_and_loses_its_statistic_with_the_task(encoder):
    model = MultiTaskModel.from_encoder(encoder, [intent("mahalanobis")])
    model.rename_task("intent", "other")
    assert isinstance(model.scope_statistics["other"], Mahalanobis)
    assert build_statistic(intent("energy"), 4) is None
    model.add_task(intent("knn"))
    assert isinstance(model.scope_statistics["intent"], NearestNeighbors)
    # Training computes no distances.
    batch = load_tokenizer(encoder)(SENTENCES[:2], return_tensors="pt", padding=True)
    assert list(model.train()(**batch).logits) == ["other", "intent"]
    assert list(model.eval()(**batch).logits) == ["other", "other.scope", "intent", "intent.scope"]
