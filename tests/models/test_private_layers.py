"""Private layers: a task's own copies of the upper layers of the encoder."""

import threading

import pytest
import torch

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.models.tasks_editing import continued_tasks, set_tasks
from tests.tiny import save_tiny_encoder

INTENT = {"name": "intent", "type": "sequence_classification", "labels": ["a", "b", "c"]}
SLOTS = {"name": "slots", "type": "token_classification", "labels": ["O", "B-x", "I-x"]}
INPUTS = {
    "input_ids": torch.tensor([[0, 8, 30, 61, 2], [0, 9, 2, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
ARCHITECTURES = ("bert", "mpnet", "roberta", "distilbert", "electra", "deberta-v2", "modernbert")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {name: save_tiny_encoder(name, folder / name, pooling="mean_tokens") for name in (*ARCHITECTURES, "albert")}


def build(encoder, intent=0, slots=1, **slots_fields):
    torch.manual_seed(0)
    tasks = [TaskConfig(**INTENT, private_layers=intent), TaskConfig(**SLOTS, private_layers=slots, **slots_fields)]
    return MultiTaskModel.from_encoder(encoder, tasks).eval()


def logits(model, **inputs):
    with torch.no_grad():
        return model(**{**INPUTS, **inputs}).logits


def shift(*modules):
    """Move the weights of modules, so that what they compute changes."""
    with torch.no_grad():
        for module in modules:
            for weight in module.parameters():
                weight.add_(torch.randn_like(weight) * 0.3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_copies_compute_what_the_layers_compute(encoders, architecture):
    plain, private = build(encoders[architecture], slots=0), build(encoders[architecture], slots=2)
    private.heads.load_state_dict(plain.heads.state_dict())
    for name, expected in logits(plain).items():
        torch.testing.assert_close(logits(private)[name], expected, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_private_layer_belongs_to_one_task(encoders, architecture):
    model = build(encoders[architecture])
    before = logits(model)
    shift(model.private_layers["slots"])
    after = logits(model)
    assert torch.equal(after["intent"], before["intent"])
    assert not torch.allclose(after["slots"], before["slots"], atol=1e-3)
    shift(model.partial_forward.layers[-1])
    upper = logits(model)
    assert not torch.allclose(upper["intent"], after["intent"], atol=1e-3)
    assert torch.equal(upper["slots"], after["slots"])
    shift(model.partial_forward.layers[0])
    lower = logits(model)
    assert all(not torch.allclose(lower[name], upper[name], atol=1e-3) for name in lower)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_private_layers_read_one_another(encoders, architecture):
    model = build(encoders[architecture], slots=2)
    before = logits(model)
    shift(model.private_layers["slots"]["1"])
    after = logits(model)
    assert torch.equal(after["intent"], before["intent"])
    assert not torch.allclose(after["slots"], before["slots"], atol=1e-3)


def test_each_gradient_goes_its_own_way(encoders):
    model = build(encoders["bert"]).train()
    groups = {group.name: group for group in model.layer_groups()}
    losses = model(**INPUTS, labels={"slots": torch.tensor([[0, 1, 2, 0, 0], [0, 1, -100, -100, -100]])}).losses
    losses["slots"].backward()
    reached = [name for name, group in groups.items() if any_gradient(group)]
    assert reached == ["embeddings", "encoder.0", "encoder.1", "private.slots.2", "head.slots"]


def any_gradient(group):
    return any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in group.parameters.values())


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_mixed_layers_are_those_that_the_task_has(encoders, architecture):
    plain = build(encoders[architecture], slots=0, mix_layers=True)
    private = build(encoders[architecture], slots=2, mix_layers=True)
    private.heads.load_state_dict(plain.heads.state_dict())
    torch.testing.assert_close(logits(private)["slots"], logits(plain)["slots"], rtol=0, atol=0)
    before = logits(private)
    shift(private.private_layers["slots"])
    assert not torch.allclose(logits(private)["slots"], before["slots"], atol=1e-3)
    assert torch.equal(logits(private)["intent"], before["intent"])


def test_windows_of_long_texts(encoders):
    model = build(encoders["bert"])
    shift(model.private_layers["slots"])
    whole = logits(model)["slots"]
    ids = INPUTS["input_ids"].repeat(10, 1)
    long = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "row_windows": torch.ones(1, 20)}
    in_chunks = logits(model, **long, tag_positions=torch.arange(5).unsqueeze(0))["slots"]
    # The first window is the first text.
    torch.testing.assert_close(in_chunks[0], whole[0], rtol=0, atol=1e-6)


def test_saved_and_loaded(encoders, tmp_path):
    model = build(encoders["modernbert"], slots=2)
    shift(model.private_layers["slots"])
    model.save_pretrained(tmp_path)
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    assert loaded.config.tasks[1].private_layers == 2
    for name, expected in logits(model).items():
        assert torch.equal(logits(loaded)[name], expected)


def test_stored_states_enter_below(encoders):
    model = build(encoders["bert"], slots=2)
    shift(model.private_layers["slots"])
    states = model.states_entering(["encoder.1", "encoder.2", "heads"], **INPUTS)
    found = logits(model, stored_states=states["encoder.1"], entering="encoder.1")
    for name, expected in logits(model).items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-6)
    for entering in ("encoder.2", "heads"):
        with pytest.raises(ValueError, match=r"private layers read the states that enter encoder.1; .* found"):
            logits(model, stored_states=states[entering], entering=entering)
    alone = logits(model, stored_states=states["heads"], entering="heads", tasks=["intent"])
    torch.testing.assert_close(alone["intent"], logits(model)["intent"], rtol=0, atol=1e-6)


def test_threads_do_not_mix_their_states(encoders):
    model = build(encoders["bert"])
    shift(model.private_layers["slots"])
    texts = [torch.tensor([[0, *range(5 + i, 5 + i + 6 * (1 + i % 3)), 2]]) for i in range(12)]
    expected = [model(input_ids=ids).logits["slots"] for ids in texts]
    wrong = []

    def predict(offset):
        for _ in range(20):
            for i in range(len(texts)):
                j = (i + offset) % len(texts)
                found = model(input_ids=texts[j]).logits["slots"]
                if found.shape != expected[j].shape or not torch.allclose(found, expected[j], atol=1e-6):
                    wrong.append(j)

    with torch.no_grad():
        threads = [threading.Thread(target=predict, args=(offset,)) for offset in (0, 5, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_checkpointed_activations_change_no_gradient(encoders):
    def gradients(checkpointed):
        model = build(encoders["bert"], slots=2).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": False})
        out = model(**INPUTS).logits
        (out["slots"].square().sum() + out["intent"].sum()).backward()
        return {name: weight.grad for name, weight in model.named_parameters()}

    plain, checkpointed = gradients(False), gradients(True)
    assert any(name.startswith("private_layers.slots.1") for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)


def test_reentrant_checkpointing_is_refused(encoders):
    with pytest.raises(ValueError, match="leave use_reentrant=True out"):
        build(encoders["bert"]).activation_checkpointing_enable({"use_reentrant": True})


def test_one_task_as_a_stock_model(encoders):
    model = build(encoders["bert"], slots=2)
    shift(model.private_layers["slots"])
    stock = model.export_task("slots")
    with torch.no_grad():
        torch.testing.assert_close(stock(**INPUTS).logits[0], logits(model)["slots"][0], rtol=0, atol=1e-5)


def test_the_embedding_of_a_text_is_that_of_the_shared_layers(encoders):
    model = build(encoders["bert"], slots=2)
    before = model.encode("play some music")
    shift(model.private_layers["slots"])
    assert torch.equal(model.encode("play some music"), before)


# Editing the tasks.


def test_a_new_task_copies_the_layers_as_they_are(encoders):
    model = build(encoders["bert"], slots=0)
    shift(model.partial_forward.layers[-1])
    model.add_task(TaskConfig("more", "sequence_classification", ["x", "y"], private_layers=1))
    copied, shared = model.private_layers["more"]["2"], model.partial_forward.layers[-1]
    assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), shared.parameters(), strict=True))
    model.rename_task("more", "less")
    assert list(model.private_layers) == ["less"]
    assert logits(model)["less"].shape == (2, 2)
    model.remove_task("less")
    assert not model.private_layers
    assert list(logits(model)) == ["intent", "slots"]


def test_the_last_task_keeps_its_layers(encoders, tmp_path):
    model = build(encoders["bert"], slots=2)
    shift(model.private_layers["slots"])
    expected = logits(model)["slots"]
    model.remove_task("intent")
    assert model.config.tasks[0].private_layers == 0
    assert not model.private_layers
    assert torch.equal(logits(model)["slots"], expected)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(MultiTaskModel.from_pretrained(tmp_path))["slots"], expected)


def test_a_trained_task_gets_private_layers_or_keeps_them(encoders):
    model = build(encoders["bert"], slots=0)
    tasks = continued_tasks(
        [TaskConfig("intent", INTENT["type"]), TaskConfig(**SLOTS, private_layers=1)], model.config.tasks
    )
    before = logits(model)
    set_tasks(model, tasks)
    assert list(model.private_layers) == ["slots"]
    assert torch.equal(logits(model)["slots"], before["slots"])
    (kept,) = continued_tasks([TaskConfig("slots", SLOTS["type"])], model.config.tasks)
    assert kept.private_layers == 1
    with pytest.raises(ValueError, match="private_layers is 2, but 1 in the trained model"):
        continued_tasks([TaskConfig("slots", SLOTS["type"], private_layers=2)], model.config.tasks)


# What is refused.


def test_refusals(encoders):
    with pytest.raises(ValueError, match="task 'slots': private_layers must be a number from 0, found -1"):
        TaskConfig(**SLOTS, private_layers=-1)
    with pytest.raises(ValueError, match=r"below the number of layers of the encoder, 3, .* found 3"):
        build(encoders["bert"], slots=3)
    with pytest.raises(ValueError, match=r"all tasks \(intent, slots\) have some"):
        build(encoders["bert"], intent=1, slots=1)
    with pytest.raises(
        ValueError, match=r"private_layers: copies of the upper layers of this encoder \(albert\)|below the number"
    ):
        build(encoders["albert"])


def test_adapters_are_refused(encoders):
    peft = pytest.importorskip("peft")
    model = build(encoders["bert"])
    with pytest.raises(ValueError, match="task 'slots' has private_layers, which have no adapters"):
        model.add_adapter(peft.LoraConfig(r=2, target_modules=["query"]))
