"""Padding does not change the logits, for any attention implementation."""

import pytest
import torch

from hf_multitask import MultiTaskModel, RunConfig, TaskConfig, load_tokenizer, run_training
from hf_multitask.models import encoder_attention
from tests.tiny import ARCHITECTURES, SENTENCES

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b", "c"]),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
]


def alone_and_together(model, tokenizer, device="cpu"):
    """Yield the logits of each row by itself and in a batch, without padding."""
    rows = [tokenizer(sentence) for sentence in SENTENCES]
    batch = tokenizer.pad(rows, return_tensors="pt").to(device)
    assert (batch["attention_mask"] == 0).any()
    together = model(**batch).logits
    for i, row in enumerate(rows):
        alone = model(**tokenizer.pad([row], return_tensors="pt").to(device)).logits
        length = len(row["input_ids"])
        yield alone["intent"][0], together["intent"][i]
        yield alone["slots"][0], together["slots"][i, :length]


@pytest.mark.parametrize("masks", ["the encoder's own", "made ready"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_row_alone_has_the_logits_that_it_has_in_a_padded_batch(architecture, masks, encoders, monkeypatch):
    if masks == "made ready":
        monkeypatch.setattr(encoder_attention, "HOST", ())
    model = MultiTaskModel.from_encoder(encoders[architecture], TASKS).eval()
    for alone, together in alone_and_together(model, load_tokenizer(encoders[architecture])):
        assert torch.allclose(alone, together, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may have it")
@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3", "none such"])
def test_an_attention_that_is_not_there_is_refused_with_those_that_are(name, encoders):
    expected = rf"attn_implementation='{name}': .*\(bert\).* Allowed here: eager, sdpa, flex_attention;"
    with pytest.raises(ValueError, match=expected):
        MultiTaskModel.from_encoder(encoders["bert"], TASKS, attn_implementation=name)


def test_an_attention_that_the_encoder_lacks_is_refused(encoders):
    with pytest.raises(ValueError, match=r"attn_implementation='sdpa': .*\(mpnet\).* Allowed here: eager;"):
        MultiTaskModel.from_encoder(encoders["mpnet"], TASKS, attn_implementation="sdpa")


def run_config(encoder, folder, **values):
    tasks = [{"name": "intent", "type": "sequence_classification"}]
    return RunConfig.from_dict({"encoder": str(encoder), "tasks": tasks, "output_dir": str(folder / "out"), **values})


def test_a_config_chooses_the_attention(encoder, write_jsonl, tmp_path, monkeypatch):
    chosen = []
    forward = MultiTaskModel.forward

    def note(model, *args, **kwargs):
        chosen.append(model.encoder.config._attn_implementation)
        return forward(model, *args, **kwargs)

    monkeypatch.setattr(MultiTaskModel, "forward", note)
    path = str(write_jsonl([{"tokens": ["a", "b"], "intent": label} for label in "xyxy"]))
    training = {"max_steps": 1, "use_cpu": True}
    run_training(run_config(encoder, tmp_path, data={"train": path}, training=training, attn_implementation="eager"))
    assert set(chosen) == {"eager"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may have it")
def test_a_config_is_refused_before_its_data_are_read(encoder, tmp_path):
    config = run_config(
        encoder, tmp_path, data={"train": str(tmp_path / "none.jsonl")}, attn_implementation="flash_attention_2"
    )
    with pytest.raises(ValueError, match="attn_implementation='flash_attention_2'"):
        run_training(config)
