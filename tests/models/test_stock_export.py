"""Export of a task as a stock model and of the encoder as a sentence-transformers folder, on every architecture."""

import json
from dataclasses import replace

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, pipeline

from hf_multitask import MultiTaskConfig, MultiTaskModel, TaskConfig, load_tokenizer
from tests.conftest import MINILM
from tests.tiny import ARCHITECTURES, SENTENCES, save_tiny_encoder

TASKS = [
    TaskConfig(
        "intent", "sequence_classification", labels=["a", "b", "c"], problem_type="single_label_classification"
    ),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
]
SEQUENCE_TASKS = [task.name for task in TASKS if not task.is_token_task]
# The heads of these models have a ReLU or a GELU, which no weights can undo.
REFUSED = ("distilbert", "electra")


def trained_model(folder, **options):
    """Return a model whose heads have weights and biases as large as after training."""
    model = MultiTaskModel.from_encoder(folder, TASKS, **options).eval()
    for head in model.heads.values():
        nn.init.normal_(head.classifier.weight, std=0.3)
        nn.init.normal_(head.classifier.bias)
    return model


def padded_batch(folder):
    return load_tokenizer(folder)(SENTENCES, padding=True, return_tensors="pt")


def assert_same_logits(found, expected, architecture):
    if architecture == "modernbert":
        # Its head has a norm, which rounds.
        assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_token_task_is_a_stock_model_with_the_same_logits_at_words(architecture, encoders, tmp_path):
    model, batch = trained_model(encoders[architecture]), padded_batch(encoders[architecture])
    positions = torch.tensor([[1, 3, 4]] * len(SENTENCES))
    expected = model(**batch, tag_positions=positions).logits["slots"]

    exported = model.export_task("slots", tmp_path)

    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(exported)
    assert loaded.config.id2label == {0: "O", 1: "B-x", 2: "I-x"}
    assert loaded.config.label2id == {"O": 0, "B-x": 1, "I-x": 2}
    for stock in (exported, loaded):
        assert_same_logits(stock(**batch).logits[:, [1, 3, 4]], expected, architecture)


@pytest.mark.parametrize("name", SEQUENCE_TASKS)
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in REFUSED])
def test_a_sequence_task_of_the_first_token_is_a_stock_model_with_the_same_logits(
    architecture, name, encoders, tmp_path
):
    model, batch = trained_model(encoders[architecture], pooling="cls"), padded_batch(encoders[architecture])
    model.export_task(name, tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    task = next(task for task in TASKS if task.name == name)
    assert loaded.config.problem_type == task.problem_type
    assert loaded.config.num_labels == task.num_labels
    if task.labels:
        assert loaded.config.id2label == task.id2label
    assert_same_logits(loaded(**batch).logits, model(**batch).logits[name], architecture)


def test_a_pooler_that_a_stock_token_model_does_not_read_is_left_alone():
    config = AutoConfig.for_model("fnet", hidden_size=16, num_hidden_layers=2, intermediate_size=32, vocab_size=99)
    model = MultiTaskModel(MultiTaskConfig(encoder_config=config, tasks=TASKS)).eval()
    input_ids = torch.arange(20).reshape(2, 10)
    assert torch.equal(model.export_task("slots")(input_ids).logits, model(input_ids).logits["slots"])


@pytest.mark.parametrize("name", ["intent", "slots"])
def test_a_norm_with_weight_and_bias_in_front_of_a_stock_head_is_taken_back(name, encoders):
    config = AutoConfig.from_pretrained(encoders["modernbert"], norm_bias=True)
    model = MultiTaskModel(MultiTaskConfig(encoder_config=config, tasks=TASKS, pooling="cls")).eval()
    norm, head = model.encoder.final_norm, model.heads[name].classifier
    nn.init.uniform_(norm.weight, 0.2, 2.0)
    nn.init.normal_(norm.bias)
    nn.init.normal_(head.weight, std=0.3)
    batch = padded_batch(encoders["modernbert"])
    expected = model(**batch).logits[name]
    assert torch.allclose(model.export_task(name)(**batch).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", REFUSED)
def test_a_stock_head_that_changes_what_goes_through_it_is_refused(architecture, encoders, tmp_path):
    model = trained_model(encoders[architecture], pooling="cls")
    with pytest.raises(ValueError, match=r"'intent' cannot be a stock model: the layers of .*ForSequenceClassif"):
        model.export_task("intent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_sequence_task_of_all_tokens_is_refused(pooling, encoder):
    model = trained_model(encoder, pooling=pooling)
    with pytest.raises(ValueError, match=rf"it reads the {pooling} of a text's tokens.*remove_task the others"):
        model.export_task("intent")


def test_an_encoder_without_a_stock_model_is_refused(encoder, monkeypatch):
    model = trained_model(encoder)
    monkeypatch.setattr(AutoModelForTokenClassification, "_model_mapping", {})
    with pytest.raises(ValueError, match="no AutoModelForTokenClassification for 'bert'"):
        model.export_task("slots")


def test_an_unknown_task_is_refused(encoder):
    with pytest.raises(ValueError, match=r"unknown task 'slot'. Did you mean 'slots'"):
        trained_model(encoder).export_task("slot")


def test_an_exported_model_has_weights_of_its_own_in_the_models_type(encoder):
    model = trained_model(encoder, dtype=torch.bfloat16)
    exported = model.export_task("slots")
    assert {weight.dtype for weight in exported.parameters()} == {torch.bfloat16}
    assert not exported.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for weight in exported.parameters():
            weight.zero_()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)]
)
def test_the_real_encoder_in_every_type(dtype, tolerance):
    """The scale for the tanh must neither overflow nor underflow in half precision."""
    model = trained_model(MINILM, pooling="cls")
    batch = load_tokenizer(MINILM)(SENTENCES, padding=True, return_tensors="pt")
    expected = model(**batch).logits["intent"]
    found = model.export_task("intent").to(dtype)(**batch).logits.float()
    assert torch.allclose(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def test_the_stock_pipelines_predict_from_the_folder_as_ours_does(encoder, tmp_path):
    torch.manual_seed(3)
    model, tokenizer = trained_model(encoder, pooling="cls"), load_tokenizer(encoder)
    torch.nn.init.normal_(model.heads["slots"].classifier.weight, std=2.0)
    text = SENTENCES[1]
    ours = pipeline("multi-task", model=model, tokenizer=tokenizer, word_labels=True)(text)
    for name in ("slots", "intent"):
        model.export_task(name, tmp_path / name, tokenizer)
    tokens = pipeline("token-classification", model=str(tmp_path / "slots"))(text)
    first_subwords = {token["start"]: token["entity"] for token in tokens if not token["word"].startswith("##")}
    batch = tokenizer(text, return_tensors="pt")
    ids = model(**batch).logits["slots"][0].argmax(-1).tolist()
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    starts = [0, *(i + 1 for i, character in enumerate(text) if character == " ")]
    expected = {
        start: TASKS[3].labels[i] for (start, end), i in zip(offsets, ids, strict=True) if end and start in starts
    }
    assert len(expected) == len(ours["slots"]["words"])
    assert len(set(expected.values())) > 1
    found = {start: first_subwords.get(start, "O") for start in expected}
    assert found == expected
    (intent,) = pipeline("text-classification", model=str(tmp_path / "intent"))(text)
    assert intent["label"] == ours["intent"]["label"]
    assert intent["score"] == pytest.approx(ours["intent"]["score"], abs=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sentence_transformers_loads_the_encoder_and_gives_the_same_vectors(architecture, encoders, tmp_path):
    model = trained_model(encoders[architecture])
    nn.init.normal_(next(model.encoder.parameters()), std=0.5)  # as training changes it
    tokenizer = load_tokenizer(encoders[architecture])
    model.export_encoder(tmp_path, tokenizer)
    sentences = [*SENTENCES, "", "a long text " * 50]
    found = SentenceTransformer(str(tmp_path), device="cpu").encode(sentences, convert_to_tensor=True)
    assert torch.allclose(found, model.encode(sentences, tokenizer), atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_the_pooling_is_written_and_read_again(pooling, normalize, encoder, tmp_path):
    model, tokenizer = trained_model(encoder, pooling=pooling), load_tokenizer(encoder)
    model.config.normalize_embeddings = normalize
    tokenizer.model_max_length = 9
    model.export_encoder(tmp_path, tokenizer)
    expected = model.encode(SENTENCES, tokenizer)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert theirs.max_seq_length == 9
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text())["max_seq_length"] == 9
    assert torch.allclose(theirs.encode(SENTENCES, convert_to_tensor=True), expected, atol=1e-6)
    again = MultiTaskModel.from_encoder(tmp_path, TASKS)
    assert (again.config.pooling, again.config.normalize_embeddings) == (pooling, normalize)
    assert torch.equal(again.encode(SENTENCES), expected)


def test_a_tokenizer_without_a_limit_writes_none(encoder, tmp_path):
    tokenizer = load_tokenizer(encoder)
    tokenizer.model_max_length = int(1e30)
    trained_model(encoder).export_encoder(tmp_path, tokenizer)
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text())["max_seq_length"] is None
    assert SentenceTransformer(str(tmp_path), device="cpu").max_seq_length == 56


def test_the_tokenizer_is_the_models_own_where_none_is_given(tmp_path):
    source = save_tiny_encoder("bert", tmp_path / "encoder")
    model = trained_model(source)
    model.export_task("slots", tmp_path / "task")
    model.export_encoder(tmp_path / "sentences")
    for folder in ("task", "sentences"):
        assert load_tokenizer(tmp_path / folder)(SENTENCES) == load_tokenizer(source)(SENTENCES)


@pytest.mark.parametrize("options", [{"head": "lstm"}, {"mix_layers": True}, {"crf": True}])
def test_a_head_of_more_than_a_linear_layer_is_no_stock_model(options, encoders):
    model = MultiTaskModel.from_encoder(encoders["bert"], [replace(TASKS[-1], **options)])
    with pytest.raises(ValueError, match="its head is more than one linear layer"):
        model.export_task("slots")


def test_a_stock_model_has_the_calibrated_scores(encoders, tmp_path):
    model = trained_model(encoders["bert"], pooling="cls")
    model.config.tasks[0].temperature = 2.0
    batch = padded_batch(encoders["bert"])
    exported = model.export_task("intent", tmp_path)
    expected = (model(**batch).logits["intent"] / 2).softmax(-1)
    assert torch.allclose(exported(**batch).logits.softmax(-1), expected, atol=1e-6)


def test_rules_about_answers_that_a_stock_model_lacks_are_named(encoders, caplog):
    model = trained_model(encoders["bert"], pooling="cls")
    for name in ("intent", "slots"):
        model.export_task(name)
    assert not caplog.messages
    model.config.tasks[0].abstain = {"method": "energy", "threshold": 1.0}
    model.config.tasks[-1].min_score = 0.5
    for name in ("topics", "intent", "slots"):
        model.export_task(name)
    assert caplog.messages == [
        "Task 'intent' abstains, but its stock model does not: it gives each text a label.",
        "Task 'slots' has a min_score, but its stock model does not: it gives all entities.",
    ]
