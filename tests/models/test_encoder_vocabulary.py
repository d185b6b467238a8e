"""Tokens without embeddings: a model is resized and stays whole, and is refused before training if it is not."""

import pytest
import torch
from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer, pipeline

from hf_multitask import MultiTaskModel, RunConfig, TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.models.encoder_vocabulary import check_padding_token
from hf_multitask.models.loading import load_model
from hf_multitask.prediction.teachers import load_teacher
from hf_multitask.runs.build import load_parts
from tests.tiny import ROWS, save_tiny_run
from tests.trainers import make_trainer

SIZE = 450
RESIZE = r"model\.resize_token_embeddings\(450\)"
MESSAGE = rf"token ids below 400, .* 50 tokens have higher ones: 'new400', 'new401', 'new402', …\. Add .*{RESIZE}"


def add_tokens(tokenizer):
    """Add tokens to a tokenizer up to ids that the tiny encoders have no embeddings for."""
    tokenizer.add_tokens([f"new{i}" for i in range(len(tokenizer), SIZE)])
    return tokenizer


@pytest.mark.parametrize("owner", ["model", "encoder"])
@pytest.mark.parametrize("architecture", ["bert", "modernbert", "electra"])
def test_a_resized_model_trains_and_gives_the_same_logits_everywhere(owner, architecture, encoders, tmp_path):
    tokenizer = add_tokens(load_tokenizer(encoders[architecture]))
    rows = [
        {**row, "tokens": ["new440", "new449", *row["tokens"]], "slots": ["O", "O", *row["slots"]]} for row in ROWS
    ]
    tasks = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]
    data = prepare_datasets({"train": rows}, tokenizer, tasks)
    model = MultiTaskModel.from_encoder(encoders[architecture], data.tasks)
    (model if owner == "model" else model.encoder).resize_token_embeddings(SIZE)
    before = model.get_input_embeddings().weight[SIZE - 1].clone()
    make_trainer(model, data, tokenizer, tmp_path / "run", max_steps=2, learning_rate=0.01, use_cpu=True).train()
    model.eval()
    assert not torch.equal(before, model.get_input_embeddings().weight[SIZE - 1])
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")

    batch = tokenizer(["new440 some music new449"], return_tensors="pt")
    expected = model(**batch).logits
    loaded, _ = load_model(tmp_path / "saved")
    torch.testing.assert_close(loaded(**batch).logits, expected, rtol=0, atol=0)
    assert loaded.config.vocab_size == loaded.config.encoder_config.vocab_size == loaded.encoder.config.vocab_size

    loaded.export_task("slots", tmp_path / "stock")
    stock = AutoModelForTokenClassification.from_pretrained(tmp_path / "stock")
    torch.testing.assert_close(stock(**batch).logits, expected["slots"], rtol=0, atol=1e-6)
    loaded.export_encoder(tmp_path / "vectors")
    states = AutoModel.from_pretrained(tmp_path / "vectors")(**batch).last_hidden_state
    torch.testing.assert_close(states, model.encoder(**batch).last_hidden_state, rtol=0, atol=0)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "vectors")) == SIZE


def test_a_model_that_is_loaded_can_be_resized_through_its_encoder(encoder, tmp_path):
    tasks = [TaskConfig("intent", "sequence_classification", labels=["a", "b"])]
    MultiTaskModel.from_encoder(encoder, tasks).save_pretrained(tmp_path / "first")
    model = MultiTaskModel.from_pretrained(tmp_path / "first")
    model.encoder.resize_token_embeddings(SIZE)
    model.save_pretrained(tmp_path / "second")
    loaded = MultiTaskModel.from_pretrained(tmp_path / "second")
    assert loaded.get_input_embeddings().num_embeddings == SIZE


def test_a_trainer_refuses_more_tokens_than_embeddings_before_training(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, add_tokens(tokenizer), tmp_path, max_steps=1, use_cpu=True)
    with pytest.raises(ValueError, match=MESSAGE):
        trainer.train()
    assert trainer.state.global_step == 0
    model.resize_token_embeddings(SIZE)
    trainer.train()


def test_a_run_refuses_them_before_it_reads_the_data(tmp_path):
    path = save_tiny_run(tmp_path, {"max_steps": 1}, tmp_path / "out")
    add_tokens(load_tokenizer(tmp_path / "encoder")).save_pretrained(tmp_path / "encoder")
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(ValueError, match=rf"AutoModel.from_pretrained\('.*encoder'\), {RESIZE}, then save"):
        load_parts(RunConfig.from_file(path))


def test_saved_models_teachers_and_pipelines_refuse_them(encoder, tmp_path):
    tasks = [TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"])]
    model, tokenizer = MultiTaskModel.from_encoder(encoder, tasks), add_tokens(load_tokenizer(encoder))
    model.save_pretrained(tmp_path / "saved")
    model.export_task("slots", tmp_path / "stock", tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match=MESSAGE):
        load_model(tmp_path / "saved")
    for folder in ("saved", "stock"):
        with pytest.raises(ValueError, match=MESSAGE):
            load_teacher(tmp_path / folder, tasks)
    with pytest.raises(ValueError, match=MESSAGE):
        pipeline("multi-task", model=model, tokenizer=tokenizer)


def test_a_trainer_refuses_another_padding_token_where_positions_depend_on_it(encoders, data, tmp_path):
    model = MultiTaskModel.from_encoder(encoders["roberta"], data.tasks)
    with pytest.raises(ValueError, match="numbers its positions from its own padding token, 1"):
        make_trainer(model, data, load_tokenizer(encoders["roberta"], pad_token="</s>"), tmp_path, use_cpu=True)
    assert model.config.pad_token_id == 1


def test_another_padding_token_is_refused_where_positions_depend_on_it(encoders):
    tokenizer = load_tokenizer(encoders["roberta"])
    configs = {
        name: MultiTaskModel.from_encoder(encoders[name], []).config for name in ("roberta", "xlm-roberta", "bert")
    }
    check_padding_token(tokenizer, configs["roberta"])
    tokenizer.pad_token = "</s>"
    check_padding_token(tokenizer, configs["bert"])
    for name in ("roberta", "xlm-roberta"):
        with pytest.raises(
            ValueError, match=rf"pads with '</s>', token 2, .*'{name}'.* 1\. Set .*pad_token = '<pad>'"
        ):
            check_padding_token(tokenizer, configs[name])
