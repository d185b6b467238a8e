"""Rows that are longer than the encoder has positions for are refused before training."""

import pytest

from hf_multitask import MultiTaskModel, load_tokenizer, prepare_datasets
from hf_multitask.training.row_lengths import check_row_lengths
from tests.tiny import ROWS, make_tokenizer
from tests.trainers import make_trainer

LONG = {"tokens": ["paris", "in", "rain"] * 30, "slots": ["B-place", "O", "O"] * 30, "intent": "GetWeather"}


@pytest.fixture
def own_tokenizer():
    """Return a tokenizer that knows nothing of the encoder, which has 54 positions."""
    tokenizer = make_tokenizer("byte-level")
    tokenizer.model_max_length = 70
    return tokenizer


def prepare(tokenizer, tasks, **options):
    rows = [*ROWS, LONG]
    return prepare_datasets({"train": rows, "validation": rows}, tokenizer, tasks, **options)


def test_rows_of_another_tokenizer_are_refused_before_training(encoders, tasks, own_tokenizer, tmp_path):
    data = prepare(own_tokenizer, tasks)
    model = MultiTaskModel.from_encoder(encoders["roberta"], data.tasks)
    for splits in ({"train": data["train"]}, {"train": data["train"].select(range(22)), "validation": data["train"]}):
        with pytest.raises(ValueError, match=r"_dataset: a row has \d+ tokens, and the encoder has positions for 54"):
            make_trainer(model, splits, own_tokenizer, tmp_path)


def test_other_rows_of_the_same_table_do_not_count(encoders, tasks, own_tokenizer, tmp_path):
    data = prepare(own_tokenizer, tasks)
    model = MultiTaskModel.from_encoder(encoders["roberta"], data.tasks)
    short = {"train": data["train"].select(range(22))}
    trainer = make_trainer(model, short, own_tokenizer, tmp_path, max_steps=1)
    with pytest.raises(ValueError, match=r"dataset: a row has \d+ tokens"):
        trainer.evaluate(data["validation"])


def test_windows_count_by_their_own_length(encoders, tasks, tmp_path):
    tokenizer = load_tokenizer(encoders["roberta"])
    data = prepare(tokenizer, tasks)
    assert max(data["train"]["length"]) > 54
    check_row_lengths(data["train"], "train", 54)
    with pytest.raises(ValueError, match="a row has 48 tokens, and the encoder has positions for 47"):
        check_row_lengths(data["train"], "train", 47)


def test_a_stream_is_known_by_its_length(tasks, own_tokenizer, tmp_path, encoders):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f'{{"text": "play {i}", "intent": "{"ab"[i % 2]}"}}\n' for i in range(9)))
    data = prepare_datasets({"train": path}, own_tokenizer, tasks[:1], streaming=True)
    with pytest.raises(ValueError, match="max_length=70: the encoder has positions for 54 tokens"):
        check_row_lengths(data["train"], "train_dataset", 54)
    own_tokenizer.model_max_length = int(1e30)
    data = prepare_datasets({"train": path}, own_tokenizer, tasks[:1], streaming=True)
    with pytest.raises(ValueError, match="train_dataset: max_length is missing: the encoder has positions for 54"):
        check_row_lengths(data["train"], "train_dataset", 54)
    check_row_lengths(data["train"], "train_dataset", None)
