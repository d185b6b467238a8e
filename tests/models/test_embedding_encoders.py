"""Encoders of embeddings: decoders read by their last token, and encoders whose repository has code of its own."""

import json

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer, prepare_datasets
from tests.models.many_encoders import save_any_encoder, tiny_config
from tests.tiny import ROWS, SENTENCES, make_tokenizer
from tests.trainers import make_trainer

TASKS = [TaskConfig("intent", "sequence_classification", labels=["a", "b"])]


def save_decoder(kind, folder, side="right"):
    """Write a tiny Qwen3, Gemma 3, or Gemma 3 whose tokens see each other, as in EmbeddingGemma."""
    torch.manual_seed(0)
    config = tiny_config("qwen3" if kind == "qwen3" else "gemma3_text")
    if kind == "embedding-gemma":
        config.use_bidirectional_attention = True
    AutoModel.from_config(config).save_pretrained(folder)
    make_tokenizer("wordpiece").save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, padding_side=side).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("kind", ["qwen3", "gemma3", "embedding-gemma"])
def test_padding_on_either_side_gives_equal_embeddings(kind, pooling, tmp_path):
    embeddings = []
    for side in ("right", "left"):
        folder = save_decoder(kind, tmp_path / side, side)
        assert AutoTokenizer.from_pretrained(folder).padding_side == side
        model = MultiTaskModel.from_encoder(folder, TASKS, pooling=pooling)
        embeddings.append(model.encode(SENTENCES, batch_size=len(SENTENCES)))
        alone = torch.cat([model.encode([sentence]) for sentence in SENTENCES])
        assert torch.allclose(embeddings[-1], alone, atol=1e-5)
    assert torch.allclose(*embeddings, atol=1e-5)


def test_the_last_token_is_that_of_the_text(tmp_path):
    folder = save_decoder("qwen3", tmp_path, "left")
    model = MultiTaskModel.from_encoder(folder, TASKS, pooling="last")
    assert model.config.pooling == "lasttoken"
    tokenizer = load_tokenizer(folder)
    ids = tokenizer(SENTENCES[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model.eval().encoder(input_ids=ids).last_hidden_state[0, -1]
    assert torch.allclose(model.encode(SENTENCES[:2])[1], expected, atol=1e-5)


def test_a_bidirectional_gemma_reads_what_follows(tmp_path):
    """Its tokens see each other; those of a causal one do not."""
    changes = {}
    for kind in ("gemma3", "embedding-gemma"):
        model = MultiTaskModel.from_encoder(save_decoder(kind, tmp_path / kind), TASKS).eval()
        ids = torch.tensor([[7, 8, 9, 10], [7, 8, 9, 11]])
        with torch.no_grad():
            states = model.encoder(input_ids=ids).last_hidden_state
        changes[kind] = float((states[0, 0] - states[1, 0]).abs().max())
    assert changes["gemma3"] == 0
    assert changes["embedding-gemma"] > 1e-4


@pytest.mark.parametrize("kind", ["qwen3", "embedding-gemma"])
def test_a_decoder_trains_in_stages_with_the_last_token(kind, tasks, tmp_path):
    folder = save_decoder(kind, tmp_path / "encoder", "left")
    tokenizer = load_tokenizer(folder)
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:9]}, tokenizer, tasks)
    model = MultiTaskModel.from_encoder(folder, data.tasks, pooling="last")
    trainer = make_trainer(model, data, tokenizer, tmp_path / "out", "heads-then-all", max_steps=7)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0


@pytest.mark.parametrize("model_type", ["eurobert", "gte", "modernbert", "nomic_bert"])
def test_code_in_the_repository_of_a_known_type_is_not_used(model_type, tmp_path):
    """EuroBERT and nomic have both: code of their own, and a class in transformers."""
    folder = save_any_encoder(model_type, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("configuration_own.py", "modeling_own.py"):
        (folder / name).write_text("raise SystemExit('code of a repository ran')\n")
    model = MultiTaskModel.from_encoder(folder, TASKS)
    assert type(model.encoder).__module__.startswith("transformers.models.")
