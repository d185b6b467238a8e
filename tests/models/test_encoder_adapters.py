"""Adapters of PEFT in the encoder: methods, switching, merging, models that the caller has wrapped."""

import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model

from hf_multitask import MultiTaskModel, TaskConfig, freeze

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b"]),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
]
METHODS = {
    "lora": LoraConfig(r=2, lora_dropout=0.1),
    "dora": LoraConfig(r=2, use_dora=True),
    "rslora": LoraConfig(r=2, lora_alpha=3, use_rslora=True, rank_pattern={"query": 4}),
    "all linear": LoraConfig(r=2, target_modules="all-linear", layers_to_transform=None),
    "embeddings": LoraConfig(r=2, target_modules=["word_embeddings", "value"]),
    "ia3": peft.IA3Config(),
    "loha": peft.LoHaConfig(r=2, target_modules=["query"]),
    "lokr": peft.LoKrConfig(r=2, target_modules=["query"]),
    "hra": peft.HRAConfig(r=2, target_modules=["query"]),
}
REFUSED = {
    "AdaLoRA": (peft.AdaLoraConfig(total_step=10), "ADALORA needs a call of update_and_allocate"),
    "prefix tuning": (peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION"), "PREFIX_TUNING learns prompts"),
    "prompt tuning": (peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION"), "PROMPT_TUNING learns prompts"),
    "VeRA": (peft.VeraConfig(target_modules=["query"]), "unknown method 'VERA'. Allowed: 'LORA'"),
    "OFT": (peft.OFTConfig(oft_block_size=0, r=2, target_modules=["query"]), "unknown method 'OFT'"),
    "biases": (LoraConfig(bias="all"), "bias='all' changes or trains more than the adapters; expected 'none'"),
    "PiSSA": (LoraConfig(init_lora_weights="pissa"), "init_lora_weights='pissa' changes or trains more"),
    "copies": (LoraConfig(modules_to_save=["LayerNorm"]), r"modules_to_save=\['LayerNorm'\] changes or trains more"),
}


def make(encoder, config=None, architecture=None):
    return MultiTaskModel.from_encoder(encoder, TASKS, peft_config=config)


@torch.no_grad()
def disturb(model, scale=0.2):
    """Move the weights that train, as training does: new adapters change nothing."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.add_(scale * torch.randn_like(weight))
    return model


@torch.no_grad()
def logits_of(model):
    ids = torch.tensor([[0, 7, 8, 9, 2], [0, 11, 2, 1, 1]])
    return model.eval()(input_ids=ids, attention_mask=(ids != 1).long()).logits


def difference(logits, others):
    return max((logits[task] - others[task]).abs().max().item() for task in logits)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_and_is_loaded_and_merged_with_equal_logits(method, encoder, tmp_path):
    model = make(encoder, METHODS[method])
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(name.startswith("heads.") or ".default" in name for name in trained)
    assert {name.split(".")[0] for name in trained} == {"heads", "encoder"}
    before = logits_of(model)
    logits = logits_of(disturb(model))
    assert difference(logits, before) > 0
    model.save_pretrained(tmp_path / "saved")
    loaded = MultiTaskModel.from_pretrained(tmp_path / "saved")
    assert difference(logits_of(loaded), logits) == 0
    assert {name for name, weight in loaded.named_parameters() if weight.requires_grad} == trained
    assert difference(logits_of(loaded.merge_and_unload()), logits) < 1e-6
    assert loaded.active_adapters() == []
    assert loaded.state_dict().keys() == make(encoder).state_dict().keys()
    loaded.save_pretrained(tmp_path / "merged")
    assert difference(logits_of(MultiTaskModel.from_pretrained(tmp_path / "merged")), logits) < 1e-6


@pytest.mark.parametrize("method", REFUSED)
def test_what_is_no_adapter_of_an_encoder_is_refused_by_name(method, encoder):
    config, message = REFUSED[method]
    with pytest.raises(ValueError, match=message):
        make(encoder, config)


@pytest.mark.parametrize("architecture", ["mpnet", "roberta", "deberta-v2", "modernbert", "distilbert", "albert"])
def test_each_architecture_has_adapters(architecture, encoders, tmp_path):
    model = make(encoders[architecture], LoraConfig(r=2, target_modules="all-linear"))
    logits = logits_of(disturb(model))
    model.save_pretrained(tmp_path)
    assert difference(logits_of(MultiTaskModel.from_pretrained(tmp_path)), logits) == 0
    groups = model.layer_groups()
    assert groups.adapters == (["lora"] if architecture == "albert" else ["lora.0", "lora.1", "lora.2"])
    names = [name for group in groups for name in group.parameters]
    assert sorted(names) == sorted(dict(model.named_parameters()))


def test_an_encoder_that_the_caller_has_wrapped_is_saved_and_loaded(encoder, tmp_path):
    model = make(encoder)
    model.encoder = get_peft_model(model.encoder, LoraConfig(r=2))
    logits = logits_of(disturb(model))
    model.save_pretrained(tmp_path)
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    assert difference(logits_of(loaded), logits) == 0
    assert loaded.active_adapters() == ["default"]


def test_an_adapter_that_was_put_into_the_encoder_itself_is_saved(encoder, tmp_path):
    model = make(encoder)
    model.encoder.add_adapter(LoraConfig(r=2), "mine")
    logits = logits_of(disturb(model))
    model.save_pretrained(tmp_path)
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    assert difference(logits_of(loaded), logits) == 0
    assert loaded.active_adapters() == ["mine"]


def test_adapters_are_switched_by_name(encoder, tmp_path):
    model = make(encoder, LoraConfig(r=2))
    first = logits_of(disturb(model))
    model.add_adapter(LoraConfig(r=4, target_modules=["key"]), "second")
    assert model.active_adapters() == ["second"]
    model.heads.requires_grad_(False)
    second = logits_of(disturb(model))
    assert difference(first, second) > 0
    model.save_pretrained(tmp_path)
    model.set_adapter("default")
    assert difference(logits_of(model), first) == 0
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    assert difference(logits_of(loaded), second) == 0
    loaded.set_adapter("default")
    assert difference(logits_of(loaded), first) == 0
    loaded.disable_adapters()
    alone = logits_of(loaded)
    loaded.enable_adapters()
    loaded.delete_adapter("second")
    assert difference(logits_of(loaded), first) == 0
    assert difference(alone, first) > 0


def test_only_the_adapter_that_runs_trains(encoder):
    model = make(encoder, LoraConfig(r=2))
    model.add_adapter(LoraConfig(r=2), "second")
    for name in ("default", "second"):
        model.set_adapter(name)
        lora = model.layer_groups().parameters_of(["lora.0", "lora.1", "lora.2"])
        assert all(f".{name}." in weight for weight in lora)
        trained = {weight for weight, value in model.encoder.named_parameters() if value.requires_grad}
        assert {f"encoder.{weight}" for weight in trained} == set(lora)


def test_a_task_with_an_adapter_of_its_own_leaves_the_others_as_they_are(encoder, tmp_path):
    model = disturb(make(encoder))
    before = logits_of(model)
    topic = TaskConfig("topic", "sequence_classification", labels=["x", "y", "z"])
    model.add_task(topic, LoraConfig(r=2))
    freeze(model, ["head.intent", "head.slots"])
    with_adapter = logits_of(disturb(model))
    model.save_pretrained(tmp_path)
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    for found in (model, loaded):
        assert found.active_adapters() == ["topic"]
        assert difference(logits_of(found), with_adapter) == 0
        found.disable_adapters()
        alone = logits_of(found)
        assert difference(before, alone) == 0
        assert (alone["topic"] - with_adapter["topic"]).abs().max() > 0
        found.enable_adapters()


def test_tasks_with_an_adapter_each_are_switched_by_name(encoder):
    model = make(encoder)
    logits = {}
    for name in ("first", "second"):
        task = TaskConfig(name, "sequence_classification", labels=["x", "y"])
        model.add_task(task, LoraConfig(r=2))
        freeze(model, [group.name for group in model.layer_groups() if group.is_head and group.name != f"head.{name}"])
        logits[name] = logits_of(disturb(model))[name]
    for name in ("first", "second"):
        model.set_adapter(name)
        assert torch.equal(logits_of(model)[name], logits[name])


def test_wrong_use_of_adapters_is_refused(encoder):
    model = make(encoder, LoraConfig(r=2))
    with pytest.raises(ValueError, match="adapter 'default': the encoder already has an adapter of this name"):
        model.add_adapter(LoraConfig(r=2))
    with pytest.raises(ValueError, match=r"unknown adapter 'default1'. Did you mean 'default'"):
        model.set_adapter("default1")
    with pytest.raises(ValueError, match="'default' is the one that runs"):
        model.delete_adapter("default")
