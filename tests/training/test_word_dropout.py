"""Word dropout: which tokens are replaced, in which stages, and the random state of a resumed run."""

import pytest
import torch

from hf_multitask import MultiTaskModel, MultiTaskTrainingArguments
from hf_multitask.training.word_dropout import WordDropout
from tests.trainers import make_trainer

PROBABILITY = 0.4


def test_the_share_of_replaced_tokens_and_what_stays(tokenizer, model):
    torch.manual_seed(0)
    tokens = torch.full((200, 50), 20)
    tokens[:, 0], tokens[:, -1] = tokenizer.cls_token_id, tokenizer.pad_token_id
    labels = torch.ones(200)
    dropped = WordDropout(PROBABILITY, tokenizer)({"input_ids": tokens, "labels": labels}, model)
    assert dropped["labels"] is labels
    assert torch.equal(dropped["input_ids"][:, [0, -1]], tokens[:, [0, -1]])
    words = dropped["input_ids"][:, 1:-1]
    assert set(words.unique().tolist()) == {20, tokenizer.mask_token_id}
    share = (words == tokenizer.mask_token_id).float().mean().item()
    assert share == pytest.approx(PROBABILITY, abs=0.02)
    assert tokens[0, 1] == 20, "the rows of the dataset stay"


def test_rows_are_complete_while_the_embeddings_are_frozen(tokenizer, model):
    inputs = {"input_ids": torch.full((8, 50), 20)}
    model.encoder.get_input_embeddings().requires_grad_(False)
    assert WordDropout(PROBABILITY, tokenizer)(inputs, model) is inputs


@pytest.mark.parametrize(("missing", "expected"), [((), "mask"), (("mask",), "unk"), (("mask", "unk"), "pad")])
def test_the_token_that_replaces(tokenizer, model, monkeypatch, missing, expected):
    for name in missing:
        monkeypatch.setattr(type(tokenizer), f"{name}_token_id", None, raising=False)
    dropped = WordDropout(0.9, tokenizer)({"input_ids": torch.full((8, 50), 20)}, model)
    assert set(dropped["input_ids"].unique().tolist()) <= {20, getattr(tokenizer, f"{expected}_token_id")}
    assert (dropped["input_ids"] != 20).any()


def test_a_tokenizer_is_needed():
    with pytest.raises(ValueError, match="word_dropout needs the tokenizer for its mask token"):
        WordDropout(0.1, None)


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_value_that_is_no_probability_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"word_dropout must be a number in \[0, 1\), found"):
        MultiTaskTrainingArguments(output_dir=str(tmp_path), word_dropout=value)


class Inputs:
    """Counts masked tokens of the batches that reach the embeddings, in training and in evaluation."""

    def __init__(self, model, mask):
        self.masked = {True: 0, False: 0}
        model.encoder.get_input_embeddings().register_forward_pre_hook(
            lambda module, inputs: self.count(model.training, inputs[0] == mask)
        )

    def count(self, training, is_masked):
        self.masked[training] += int(is_masked.sum())


def test_only_training_rows_are_changed_and_a_resumed_run_is_the_same(tmp_path, encoder, data, tokenizer):
    def run(folder, resume=None, word_dropout=PROBABILITY):
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoder, data.tasks)
        trainer = make_trainer(
            model,
            data,
            tokenizer,
            tmp_path / folder,
            max_steps=4,
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="steps",
            save_steps=2,
            word_dropout=word_dropout,
        )
        inputs = Inputs(model, tokenizer.mask_token_id)
        trainer.train(resume_from_checkpoint=None if resume is None else str(tmp_path / "whole" / resume))
        return model.state_dict(), inputs.masked

    whole, masked = run("whole")
    assert masked[True] > 0
    assert masked[False] == 0
    resumed, _ = run("resumed", resume="checkpoint-2")
    plain, _ = run("plain", word_dropout=0.0)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(not torch.equal(whole[name], plain[name]) for name in whole)
