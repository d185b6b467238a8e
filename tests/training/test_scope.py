"""Thresholds of tasks that abstain, and how well they tell texts apart."""

import numpy as np
import pytest
import torch

from hf_multitask import TaskConfig
from hf_multitask.data.labels.unseen_labels import OUT_OF_SCOPE, is_unseen
from hf_multitask.training.scope import SCOPE_METRICS, ScopeCollector, scope_metric_names, scope_scores


def task(**values):
    return TaskConfig(
        "intent",
        "sequence_classification",
        ["a", "b"],
        problem_type="single_label_classification",
        abstain={"false_rejections": 0.1, **values},
    )


def fit(abstaining, logits, labels):
    collector = ScopeCollector([abstaining])
    for rows in torch.arange(len(logits)).chunk(3):
        collector.add({"intent": logits[rows]}, {"intent": labels[rows]}, None)
    return collector.fit()["intent"]


@pytest.mark.parametrize("method", ["energy", "max_softmax"])
def test_the_share_of_rows_in_scope_that_is_asked_for_is_rejected(method):
    logits = 3 * torch.randn(1000, 2)
    found = fit(task(method=method), logits, torch.zeros(1000, dtype=torch.long))
    assert found.false_rejections == pytest.approx(0.1, abs=0.002)
    assert found.recall is None
    statistic = found.abstention.statistic(logits)
    rejected = found.abstention.rejects(statistic)
    assert rejected.float().mean() == pytest.approx(0.1, abs=0.002)
    assert ((found.abstention.in_scope(statistic) < 0.5) == rejected).all()


def test_new_texts_are_rejected_as_often_as_is_asked_for():
    # 50 rows of validation each: the share of new rows below a quantile as numpy computes it is 0.117 on average.
    labels = torch.zeros(50, dtype=torch.long)
    fits = [fit(task(method="energy"), logits, labels) for logits in torch.randn(1000, 50, 2)]
    thresholds = torch.tensor([found.abstention.threshold for found in fits])
    new = torch.randn(20_000, 2).logsumexp(-1).sort().values
    below = torch.searchsorted(new, thresholds) / len(new)
    assert below.mean().item() == pytest.approx(0.1, abs=0.006)


def test_rows_out_of_scope_decide_on_the_threshold():
    inside = torch.tensor([[4.0, 0], [5, 0], [6, 0], [1, 0]])
    outside = torch.tensor([[0.0, 0], [2, 0], [2.5, 0]])
    labels = torch.tensor([0] * 4 + [OUT_OF_SCOPE] * 3)
    found = fit(task(), torch.cat([inside, outside]), labels)
    assert (found.false_rejections, found.recall) == (0.25, 1.0)
    assert 2.5 < found.abstention.threshold < 4.1
    # Missing labels say nothing about the scope.
    assert fit(task(), inside, torch.full((4,), -100)) is None


def test_scores_by_hand():
    values = {"statistic": np.array([4.0, 3.0, 1.0, 0.5, 2.0, 9.0])}
    labels = np.array([0, 1, 0, OUT_OF_SCOPE, OUT_OF_SCOPE, -100])
    scores = scope_scores(task(threshold=1.5), values, labels)
    assert scores == {
        "false_rejections": pytest.approx(1 / 3),
        "scope_recall": 0.5,
        "scope_precision": 0.5,
        "scope_auroc": pytest.approx(5 / 6),
        "scope_auprc": pytest.approx((1 + 2 / 3) / 2),
    }
    assert scope_scores(task(), values, labels).keys() == {"scope_auroc", "scope_auprc"}
    assert scope_metric_names(task()) == SCOPE_METRICS


def test_rows_out_of_scope_are_not_unseen_labels():
    assert is_unseen(np.array([OUT_OF_SCOPE, -101, -100, 0])).tolist() == [False, True, False, False]
