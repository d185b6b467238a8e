"""Teachers: multi-task and stock models with their own tokenizers, scored by row and word."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.text_alignment import MIN_LOG_PROBABILITY
from hf_multitask.prediction.teachers import check_teacher, load_teacher, mean_scores

TASKS = [
    TaskConfig(
        "intent", "sequence_classification", labels=["a", "b", "c"], problem_type="single_label_classification"
    ),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"]),
]
SLOTS = TASKS[3]
TEXTS = {
    "tokens": [["play", "some", "music"], ["what", "is", "the", "weather", "in", "london"], ["rain"]],
    "text": [None, None, None],
    "text_pair": [None, None, None],
}


def save_teacher(encoder, folder, tasks=TASKS, pooling="cls"):
    """Save a model whose heads have weights as large as after training; return its folder."""
    tokenizer = load_tokenizer(encoder)
    model = MultiTaskModel.from_encoder(encoder, tasks, pooling=pooling)
    for head in model.heads.values():
        nn.init.normal_(head.classifier.weight, std=0.5)
    for crf in model.crfs.values():
        nn.init.normal_(crf.transitions)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def expected_scores(folder, words, task):
    """Return the log-probabilities of one row, tokenized on its own."""
    model, tokenizer = MultiTaskModel.from_pretrained(folder), load_tokenizer(folder)
    prefixed = [word if i == 0 or "Ġ" not in tokenizer.get_vocab() else f" {word}" for i, word in enumerate(words)]
    encoded = tokenizer(prefixed, is_split_into_words=True, return_tensors="pt")
    ids = encoded.word_ids()
    positions = torch.tensor([[ids.index(i) for i in range(len(words))]])
    logits = model(**encoded, tag_positions=positions).logits[task]
    return logits[0].detach()


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_scores_are_those_of_each_row_alone_at_the_first_subword_of_each_word(architecture, encoders, tmp_path):
    folder = save_teacher(encoders[architecture], tmp_path)
    found = load_teacher(folder, TASKS).predict(TEXTS, batch_size=2)
    for i, words in enumerate(TEXTS["tokens"]):
        for name in ("intent", "slots"):
            expected = expected_scores(folder, words, name).log_softmax(-1)
            assert np.allclose(found[name][i], expected, atol=1e-5)
        assert np.allclose(found["topics"][i], expected_scores(folder, words, "topics"), atol=1e-5)
        assert np.allclose(found["grade"][i], expected_scores(folder, words, "grade"), atol=1e-5)


def test_rows_are_scored_longest_first(encoder, tmp_path):
    teacher, lengths = load_teacher(save_teacher(encoder, tmp_path), TASKS), []
    scores = teacher.scores

    def watch(batch):
        lengths.append(batch["input_ids"].shape[1])
        return scores(batch)

    teacher.scores = watch
    found = teacher.predict(TEXTS, batch_size=1)
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) == 3
    assert [len(row) for row in found["slots"]] == [3, 6, 1]


def test_labels_in_another_order_are_mapped_by_name(encoder, tmp_path):
    folder = save_teacher(encoder, tmp_path)
    other = replace(SLOTS, labels=["I-y", "B-x", "O", "B-y", "I-x"])
    (own,) = [load_teacher(folder, [task]).predict(TEXTS, 8)["slots"][1] for task in [SLOTS]]
    mapped = load_teacher(folder, [other]).predict(TEXTS, 8)["slots"][1]
    assert np.array_equal(mapped, own[:, [SLOTS.labels.index(label) for label in other.labels]])


def test_a_stock_model_scores_as_the_multi_task_model_it_was_exported_from(encoder, tmp_path):
    folder = save_teacher(encoder, tmp_path / "whole")
    model, tokenizer = MultiTaskModel.from_pretrained(folder), load_tokenizer(folder)
    expected = load_teacher(folder, TASKS).predict(TEXTS, 8)
    for name in ("slots", "intent", "topics"):
        model.export_task(name, tmp_path / name, tokenizer)
        # The task is found by its labels.
        found = load_teacher(tmp_path / name, TASKS).predict(TEXTS, 8)
        assert list(found) == [name]
        for row, other in zip(found[name], expected[name], strict=True):
            assert np.allclose(row, other, atol=1e-4)


@pytest.mark.parametrize("is_stock", [False, True])
def test_a_long_row_is_scored_in_windows(is_stock, encoder, tmp_path):
    folder = save_teacher(encoder, tmp_path / "whole", pooling="cls")
    if is_stock:
        MultiTaskModel.from_pretrained(folder).export_task("slots", tmp_path / "stock", load_tokenizer(folder))
        folder = tmp_path / "stock"
    words = [f"{word}" for word in ["play", "some", "music", "in", "paris"] * 20]
    texts = {"tokens": [words, ["rain"]], "text": [None, None], "text_pair": [None, None]}
    teacher = load_teacher(folder, TASKS)
    assert len(words) > teacher.align.max_length
    found = teacher.predict(texts, 8)["slots"]
    assert found[0].shape == (100, 5)
    assert np.isfinite(found[0]).all()
    assert np.allclose(np.exp(found[0]).sum(-1), 1, atol=1e-4)


def test_a_text_without_words_is_split_for_a_teacher_of_words(encoder, tmp_path):
    teacher = load_teacher(save_teacher(encoder, tmp_path), TASKS[:1])
    texts = {"tokens": [None], "text": ["play some music"], "text_pair": [None]}
    as_words = teacher.predict({**TEXTS, "tokens": TEXTS["tokens"][:1], "text": [None], "text_pair": [None]}, 8)
    assert np.array_equal(teacher.predict(texts, 8)["intent"][0], as_words["intent"][0])


def test_a_crf_teaches_its_marginals(encoder, tmp_path):
    task = replace(SLOTS, crf=True, constrained_decoding=True)
    folder = save_teacher(encoder, tmp_path, [task])
    found = load_teacher(folder, [SLOTS]).predict(TEXTS, 8)["slots"][1]
    assert np.allclose(np.exp(found).sum(-1), 1, atol=1e-4)
    # The first word cannot continue an entity.
    assert found[0, 2] == found[0, 4] == MIN_LOG_PROBABILITY
    plain = expected_scores(folder, TEXTS["tokens"][1], "slots").log_softmax(-1)
    assert np.abs(found - plain.numpy()).max() > 0.1


def test_a_word_that_the_teacher_truncates_has_no_scores(encoder, tmp_path):
    folder = save_teacher(encoder, tmp_path)
    model = MultiTaskModel.from_pretrained(folder)
    model.config.truncate = True
    model.config.save_pretrained(folder)
    texts = {"tokens": [["play"] * 60], "text": [None], "text_pair": [None]}
    found = load_teacher(folder, TASKS).predict(texts, 8)["slots"][0]
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[-1]).all()


def test_an_ensemble_scores_with_the_mean_of_the_probabilities():
    members = [np.log(np.array([[0.9, 0.1], [0.3, 0.7]], np.float32)), np.log(np.array([[0.5, 0.5], [0.1, 0.9]]))]
    assert np.allclose(np.exp(mean_scores(SLOTS, members)), [[0.7, 0.3], [0.2, 0.8]])
    one_blind = [members[0], np.where([[True], [False]], members[1], np.nan), members[0] * np.nan]
    assert np.allclose(np.exp(mean_scores(SLOTS, one_blind)), [[0.7, 0.3], [0.3, 0.7]])
    logits = [np.array([2.0, -1.0]), np.array([0.0, 1.0])]
    probabilities = np.mean([1 / (1 + np.exp(-row)) for row in logits], axis=0)
    assert np.allclose(1 / (1 + np.exp(-mean_scores(TASKS[1], logits))), probabilities)
    assert mean_scores(TASKS[2], [np.array([1.0]), np.array([4.0])]) == 2.5


def test_the_digest_depends_on_the_weights_and_the_labels(encoder, tmp_path):
    first, second = (save_teacher(encoder, tmp_path / name) for name in "ab")
    digests = [load_teacher(folder, TASKS).digest() for folder in (first, first, second)]
    assert digests[0] == digests[1] != digests[2]
    assert load_teacher(first, TASKS[:1]).digest() != digests[0]


def test_other_models_are_refused(encoder, tmp_path):
    with pytest.raises(ValueError, match=r"expected a multi-task model, or a stock model .* found BertModel"):
        check_teacher(encoder)
    with pytest.raises(ValueError, match="the folder does not exist"):
        check_teacher(tmp_path / "nothing")
    folder = save_teacher(encoder, tmp_path / "teacher")
    check_teacher(folder)
    with pytest.raises(ValueError, match="has none of the tasks sentiment; it has intent, topics, grade, slots"):
        load_teacher(folder, [TaskConfig("sentiment", "sequence_classification", labels=["a"])])
    with pytest.raises(ValueError, match="task 'intent': expected a regression, found a single_label"):
        load_teacher(folder, [TaskConfig("intent", "sequence_classification", problem_type="regression")])
    with pytest.raises(ValueError, match="but it does not have d, and it has besides c"):
        load_teacher(folder, [replace(TASKS[0], labels=["a", "b", "d"])])


def test_a_stock_model_is_refused_if_no_task_or_several_tasks_fit(encoder, tmp_path):
    model = MultiTaskModel.from_pretrained(save_teacher(encoder, tmp_path / "whole"))
    stock = tmp_path / "stock"
    model.export_task("slots", stock, load_tokenizer(encoder))
    with pytest.raises(ValueError, match="is a model for token classification, but no task to teach is"):
        load_teacher(stock, TASKS[:3])
    with pytest.raises(ValueError, match="the tasks slots, more have its labels; name the one"):
        load_teacher(stock, [SLOTS, replace(SLOTS, name="more")])
    other = replace(SLOTS, labels=["O", "B-z", "I-z"])
    with pytest.raises(ValueError, match="labels of task 'slots', but it does not have z, and it has besides x, y"):
        load_teacher(stock, [other])
    # Two tasks of the type, one with the labels.
    assert list(load_teacher(stock, [SLOTS, replace(other, name="more")]).label_maps) == ["slots"]


def export_stock(encoder, folder, name, **changes):
    """Save a task of a teacher as a stock model, with changes of its config; return its folder."""
    model = MultiTaskModel.from_pretrained(save_teacher(encoder, folder / "whole"))
    stock = model.export_task(name)
    for key, value in changes.items():
        setattr(stock.config, key, value)
    stock.save_pretrained(folder / "stock")
    load_tokenizer(encoder).save_pretrained(folder / "stock")
    return folder / "stock"


def test_a_stock_model_without_a_kind_is_one_for_single_labels(encoder, tmp_path):
    stock = export_stock(encoder, tmp_path, "intent", problem_type=None)
    assert list(load_teacher(stock, TASKS).label_maps) == ["intent"]


def test_a_stock_model_of_another_kind_is_refused(encoder, tmp_path):
    stock = export_stock(encoder, tmp_path, "topics")
    task = replace(TASKS[1], problem_type="single_label_classification")
    with pytest.raises(ValueError, match=r"task 'topics': expected a single_label_.*, found a multi_label_"):
        load_teacher(stock, [task])


def test_a_stock_model_with_too_large_a_tokenizer_is_refused(encoder, tmp_path):
    stock = export_stock(encoder, tmp_path, "slots")
    tokenizer = load_tokenizer(encoder)
    tokenizer.add_tokens([f"unheardof{i}" for i in range(1000)])
    tokenizer.save_pretrained(stock)
    with pytest.raises(ValueError, match="tokens have higher ones: 'unheardof"):
        load_teacher(stock, [SLOTS])
