"""Texts whose logits say little are rejected; the answer keeps its shape."""

from dataclasses import replace

import pytest
import torch

from hf_multitask import TaskConfig
from hf_multitask.models.abstention import Abstention
from hf_multitask.models.predictor import OutputOptions, _sequence_results

INTENT = TaskConfig("intent", "sequence_classification", ["a", "b"], problem_type="single_label_classification")
LOGITS = torch.tensor([[5.0, 0.0], [0.0, 0.1]])


def test_the_statistics():
    assert torch.equal(Abstention("energy").statistic(LOGITS), LOGITS.logsumexp(-1))
    assert torch.equal(Abstention("max_softmax").statistic(LOGITS), LOGITS.softmax(-1).amax(-1))


@pytest.mark.parametrize("method", ["energy", "max_softmax"])
@pytest.mark.parametrize("name", [None, "oos"])
def test_a_rejected_text_has_no_label_and_the_best_one_beside_it(method, name):
    threshold = Abstention(method).statistic(LOGITS).mean().item()
    values = Abstention(method, threshold=threshold, scale=0.5).to_dict()
    task = replace(INTENT, abstain=values, out_of_scope=name)
    sure, unsure = _sequence_results(task, LOGITS, OutputOptions())
    plain = _sequence_results(INTENT, LOGITS, OutputOptions())
    assert sure == {**plain[0], "best_label": "a", "in_scope": pytest.approx(sure["in_scope"])}
    assert unsure == {**plain[1], "label": name, "best_label": "b", "in_scope": pytest.approx(unsure["in_scope"])}
    assert unsure["in_scope"] < 0.5 <= sure["in_scope"] <= 1
    # A temperature changes the score, not what is rejected.
    calm = _sequence_results(replace(task, temperature=3.0), LOGITS, OutputOptions())
    assert [row["label"] for row in calm] == ["a", name]
    assert [row["in_scope"] for row in calm] == [sure["in_scope"], unsure["in_scope"]]
    assert _sequence_results(task, LOGITS, OutputOptions(top_k=1))[1][0]["label"] == "b"


def test_without_a_threshold_nothing_is_rejected():
    answers = _sequence_results(replace(INTENT, abstain={}), LOGITS, OutputOptions())
    assert [(row["label"], row["in_scope"]) for row in answers] == [("a", 1.0), ("b", 1.0)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"abstain": {"method": "mahalanobi"}}, r"task 'intent': abstain: .*'mahalanobi'.*energy"),
        ({"abstain": {"kind": "energy"}}, r"task 'intent': abstain: .*'kind'.*method"),
        ({"abstain": {"false_rejections": 4}}, r"false_rejections must be a number between 0 and 1, found 4"),
        ({"abstain": {"scale": 0.0}}, r"scale must be a number above 0"),
        ({"out_of_scope": "a"}, r"out_of_scope 'a' is one of the labels"),
        ({"abstain": {}, "problem_type": "multi_label_classification"}, r"abstain is for tasks with one label"),
    ],
)
def test_values_that_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TaskConfig(**{**INTENT.to_dict(), **values})
