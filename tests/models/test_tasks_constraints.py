"""Entity types that the predicted label of a text excludes: decoding, scores, checks, and edits of tasks."""

from dataclasses import replace

import pytest
import torch

from hf_multitask import MultiTaskConfig, MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.decoding import decode
from hf_multitask.models.tasks_constraints import constrain_tags
from hf_multitask.models.tasks_editing import continued_tasks
from hf_multitask.training.prediction_reduction import reduce_predictions
from hf_multitask.training.score_fits import ScoreCollector
from tests.predictions import predict
from tests.tiny import SENTENCES

INTENT = TaskConfig(
    "intent", "sequence_classification", labels=["buy", "chat", "sell"], problem_type="single_label_classification"
)
FREE = TaskConfig("slots", "token_classification", labels=["O", "B-item", "I-item", "B-price", "I-price"])
TYPES = {"buy": ["item"], "sell": []}
SLOTS = replace(FREE, constrained_by="intent", types_by_label=TYPES)
TASKS = [INTENT, SLOTS]


def logits_for(labels, words=4):
    """Return logits whose best label of each text is the given one, and random ones of its words."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.one_hot(torch.tensor(labels), 3).float()
    return {"intent": texts, "slots": torch.randn(len(labels), words, 5, generator=generator)}


def types_of(ids):
    return {FREE.labels[i][2:] for i in ids.flatten().tolist()} - {""}


def test_without_a_share_of_others_a_text_has_only_types_of_its_predicted_label():
    logits = logits_for([0] * 50 + [1] * 50 + [2] * 50)
    free = decode(FREE, logits["slots"])
    assert all(types_of(part) == {"item", "price"} for part in free.split(50))
    ids = decode(SLOTS, constrain_tags(TASKS, logits)["slots"])
    assert types_of(ids[:50]) == {"item"}
    assert torch.equal(ids[50:100], free[50:100])  # "chat" is left out of the types, so it allows all
    assert types_of(ids[100:]) == set()


def test_losses_do_not_depend_on_constraints_and_scores_are_those_of_the_answers():
    logits = logits_for([0, 2, 1])
    labels = {"intent": torch.tensor([0, 2, 1]), "slots": torch.tensor([[3, 4, 0, 1]] * 3)}
    positions = torch.arange(4).expand(3, 4)
    free = reduce_predictions([INTENT, FREE], logits, labels, positions, {})
    constrained = reduce_predictions(TASKS, logits, labels, positions, {})
    for name in ("intent", "slots"):
        assert torch.equal(free[name]["loss"], constrained[name]["loss"])
    assert torch.equal(free["intent"]["ids"], constrained["intent"]["ids"])
    assert "price" in types_of(free["slots"]["ids"][0])
    assert types_of(constrained["slots"]["ids"][0]) <= {"item"}
    assert (constrained["slots"]["given"][1] == torch.tensor([0.0, 0.0, 1.0, 0.0])).all()  # only O is left
    assert torch.equal(constrained["slots"]["score"][2], free["slots"]["score"][2])


def test_temperatures_are_fitted_on_the_entities_of_answers():
    logits = logits_for([0] * 20)
    labels = {"intent": torch.zeros(20, dtype=torch.long), "slots": torch.zeros(20, 4, dtype=torch.long)}
    collector = ScoreCollector(TASKS, {}, fits_temperatures=True, fits_thresholds=False)
    collector.add(logits, labels, torch.arange(4).expand(20, 4))
    assert set(collector.logits.entities(SLOTS).types) == {"item"}


def test_half_precision_has_no_nan():
    logits = {name: values.half() for name, values in logits_for([0, 1, 2]).items()}
    constrained = constrain_tags(TASKS, logits)["slots"]
    assert constrained.dtype == torch.float16
    assert constrained.log_softmax(-1).isfinite().all()


def test_a_type_that_was_not_seen_with_the_label_is_as_unlikely_as_the_share_of_such_texts():
    slots = replace(SLOTS, unseen_types_share=0.01)
    logits = logits_for([0, 1])
    before, after = logits["slots"], constrain_tags([INTENT, slots], logits)["slots"]
    odds = (after - before)[0]
    assert torch.equal(odds[:, :3], torch.zeros(4, 3))
    torch.testing.assert_close(odds[:, 3:].exp(), torch.full((4, 2), 0.01))
    assert torch.equal(after[1], before[1])
    sure = {**logits, "slots": before + torch.tensor([0.0, 0.0, 0.0, 9.0, 0.0])}
    assert types_of(decode(slots, constrain_tags([INTENT, slots], sure)["slots"])[0]) == {"price"}
    assert types_of(decode(SLOTS, constrain_tags(TASKS, sure)["slots"])[0]) <= {"item"}


@pytest.fixture
def model(encoder):
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(encoder, TASKS)
    torch.nn.init.normal_(model.heads["slots"].classifier.weight, std=2.0)
    model.heads["intent"].classifier.bias.data[0] = 100.0  # every text is "buy"
    return model


def test_predictions_of_the_saved_model_are_constrained_whichever_tasks_are_asked_for(model, encoder, tmp_path):
    tokenizer = load_tokenizer(encoder)
    model.save_pretrained(tmp_path)
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    assert loaded.config.tasks == model.config.tasks
    answers = predict(loaded, tokenizer, SENTENCES)
    found = {entity["label"] for answer in answers for entity in answer["slots"]["entities"]}
    assert found == {"item"}

    alone = predict(loaded, tokenizer, SENTENCES, tasks=["slots"])
    assert [list(answer) for answer in alone] == [["slots"]] * len(SENTENCES)
    for one, both in zip(alone, answers, strict=True):
        assert one["slots"]["labels"] == both["slots"]["labels"]

    loaded.remove_task("intent")
    assert loaded.config.tasks == [FREE.with_defaults()]
    free = predict(loaded, tokenizer, SENTENCES)
    assert {entity["label"] for answer in free for entity in answer["slots"]["entities"]} == {"item", "price"}


def test_a_renamed_task_still_constrains(model):
    model.rename_task("intent", "purpose")
    (_, slots) = model.config.tasks
    assert (slots.constrained_by, slots.types_by_label) == ("purpose", TYPES)


def test_a_continued_task_keeps_its_constraint_while_the_other_task_is_there():
    given = [replace(task, labels=None, constrained_by=None, types_by_label=None) for task in TASKS]
    assert continued_tasks(given, MultiTaskConfig(tasks=TASKS).tasks)[1].types_by_label == TYPES
    (alone,) = continued_tasks(given[1:], MultiTaskConfig(tasks=TASKS).tasks)
    assert (alone.constrained_by, alone.types_by_label) == (False, None)
    without = [given[0], replace(given[1], constrained_by=False)]
    assert continued_tasks(without, MultiTaskConfig(tasks=TASKS).tasks)[1].types_by_label is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constrained_by": True}, "constrained_by must be the name of a task, or false, found true"),
        ({"constrained_by": ""}, "constrained_by must be the name of a task, or false, found ''"),
        ({"types_by_label": TYPES}, "types_by_label is for tasks with constrained_by"),
        ({"unseen_types_share": 1.5}, "unseen_types_share must be a number in [0, 1], found 1.5"),
        (
            {"constrained_by": "intent", "types_by_label": {"buy": ["itm"]}},
            "unknown entity type in types_by_label 'itm'. Did you mean 'item'?",
        ),
    ],
)
def test_a_wrong_constraint_of_a_task_is_refused(changes, message):
    with pytest.raises(ValueError, match="task 'slots'") as error:
        replace(FREE, **changes)
    assert message in str(error.value)


def test_sequence_tasks_are_not_constrained():
    with pytest.raises(ValueError, match="task 'intent': constrained_by is for token tasks"):
        replace(INTENT, constrained_by="slots")


def test_a_constraint_without_types_is_refused():
    with pytest.raises(ValueError, match="constrained_by='intent' has no types_by_label"):
        MultiTaskConfig(tasks=[INTENT, replace(FREE, constrained_by="intent")])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(INTENT, name="intents"), "unknown sequence task 'intent'. Did you mean 'intents'?"),
        (replace(INTENT, problem_type="multi_label_classification"), "must name a task with one label per text"),
        (replace(INTENT, labels=["bye", "chat"]), "unknown label of 'intent' in types_by_label 'buy'"),
    ],
)
def test_a_constraint_that_does_not_fit_the_other_task_is_refused(other, message):
    with pytest.raises(ValueError, match="task 'slots'") as error:
        MultiTaskConfig(tasks=[other, SLOTS])
    assert message in str(error.value)
