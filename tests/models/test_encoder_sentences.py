"""Sentence embeddings are those of sentence-transformers, for every kind of folder that it saves."""

import json
import logging

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from transformers import AutoModel, AutoTokenizer

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.encoder_pooling import POOLING_MODES
from tests.models.many_encoders import save_any_encoder
from tests.tiny import SENTENCES, make_tokenizer, save_tiny_encoder

TASKS = [TaskConfig("intent", "sequence_classification", labels=["a", "b"])]
TEXTS = [*SENTENCES, "Play SOME Music", "rain " * 60]
PROMPTS = {"query": "find a song: ", "passage": ""}


def save_folder(
    folder, architecture="bert", pooling="mean", normalize=False, include_prompt=True, side="right", **options
):
    """Let sentence-transformers write a folder."""
    save_tiny_encoder(architecture, folder / "encoder")
    AutoTokenizer.from_pretrained(folder / "encoder", padding_side=side).save_pretrained(folder / "encoder")
    modules = [Transformer(str(folder / "encoder")), Pooling(16, pooling, include_prompt=include_prompt)]
    SentenceTransformer(modules=[*modules, *([Normalize()] * normalize)], **options).save(str(folder / "saved"))
    assert SentenceTransformer(str(folder / "saved")).tokenizer.padding_side == side
    return folder / "saved"


def theirs(folder, **options):
    return SentenceTransformer(str(folder), device="cpu").encode(
        TEXTS, convert_to_tensor=True, batch_size=4, **options
    )


def ours(folder, **options):
    return MultiTaskModel.from_encoder(folder, TASKS).encode(TEXTS, batch_size=4, **options)


def assert_equal(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-6


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", POOLING_MODES)
def test_each_pooling_with_padding_on_either_side(pooling, side, tmp_path):
    folder = save_folder(tmp_path, pooling=pooling, side=side)
    assert_equal(ours(folder), theirs(folder))


@pytest.mark.parametrize("architecture", ["roberta", "modernbert", "distilbert"])
def test_other_encoders(architecture, tmp_path):
    folder = save_folder(tmp_path, architecture, normalize=True)
    assert_equal(ours(folder), theirs(folder))


@pytest.mark.parametrize("pooling", POOLING_MODES)
@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_default_prompt_is_used(pooling, include_prompt, side, tmp_path):
    options = {"prompts": PROMPTS, "default_prompt_name": "query", "include_prompt": include_prompt}
    folder = save_folder(tmp_path, pooling=pooling, side=side, **options)
    expected = theirs(folder)
    assert_equal(ours(folder), expected)
    assert (expected - theirs(folder, prompt="")).abs().max() > 1e-3


def test_a_prompt_is_chosen_by_name(tmp_path):
    folder = save_folder(tmp_path, prompts=PROMPTS)
    for name in ("query", "passage"):
        assert_equal(ours(folder, prompt_name=name), theirs(folder, prompt_name=name))
    assert_equal(ours(folder), theirs(folder))
    with pytest.raises(ValueError, match=r"prompt_name: unknown prompt 'querry'. Did you mean 'query'"):
        ours(folder, prompt_name="querry")


def test_texts_are_lowercased_if_the_folder_says_so(tmp_path):
    save_tiny_encoder("bert", tmp_path, pooling="mean_tokens")
    make_tokenizer("wordpiece-cased").save_pretrained(tmp_path)
    cased = ours(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": true}')
    assert_equal(ours(tmp_path), theirs(tmp_path))
    assert (ours(tmp_path) - cased).abs().max() > 1e-3
    assert load_tokenizer(tmp_path).tokenize("PLAY") == load_tokenizer(tmp_path).tokenize("play")


def test_only_the_first_dimensions_are_kept(tmp_path):
    folder = save_folder(tmp_path, normalize=True, truncate_dim=5)
    assert_equal(ours(folder), theirs(folder))
    assert MultiTaskModel.from_encoder(folder, TASKS).encode([]).shape == (0, 5)


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
def test_older_folders_have_the_encoder_in_a_subfolder(name, tmp_path):
    save_tiny_encoder("bert", tmp_path / "0_Transformer")
    (tmp_path / "0_Transformer" / name).write_text('{"max_seq_length": 10, "do_lower_case": false}')
    kinds = [("0_Transformer", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    for path in ("1_Pooling", "2_Normalize"):
        (tmp_path / path).mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    settings = {"prompts": PROMPTS, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert_equal(ours(tmp_path), theirs(tmp_path))
    config = MultiTaskModel.from_encoder(tmp_path, TASKS).config
    assert (config.pooling, config.normalize_embeddings) == ("cls", True)
    assert load_tokenizer(tmp_path).model_max_length == 10


def test_a_saved_model_keeps_the_settings_of_its_embeddings(tmp_path):
    options = {"prompts": PROMPTS, "default_prompt_name": "query", "include_prompt": False, "truncate_dim": 7}
    folder = save_folder(tmp_path, pooling="lasttoken", normalize=True, side="left", **options)
    model = MultiTaskModel.from_encoder(folder, TASKS)
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(folder).save_pretrained(tmp_path / "model")
    again = MultiTaskModel.from_pretrained(tmp_path / "model")
    assert_equal(again.encode(TEXTS, batch_size=4), theirs(folder))
    again.export_encoder(tmp_path / "exported")
    assert_equal(theirs(tmp_path / "exported"), theirs(folder))
    assert SentenceTransformer(str(tmp_path / "exported")).prompts["query"] == PROMPTS["query"]


def test_an_exported_encoder_keeps_the_lowercase_tokenizer(tmp_path):
    save_tiny_encoder("bert", tmp_path, pooling="mean_tokens")
    make_tokenizer("wordpiece-cased").save_pretrained(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": true}')
    MultiTaskModel.from_encoder(tmp_path, TASKS).export_encoder(tmp_path / "exported")
    assert_equal(theirs(tmp_path / "exported"), theirs(tmp_path))


def test_encoding_leaves_the_mode_of_the_model_as_it_was(encoder):
    model = MultiTaskModel.from_encoder(encoder, TASKS).train()
    model.encode(SENTENCES)
    assert model.training


def test_a_text_between_others_is_what_it_is_alone(encoder):
    """The order of the sentences is that of the caller, whatever their lengths."""
    model = MultiTaskModel.from_encoder(encoder, TASKS)
    together = model.encode(SENTENCES, batch_size=3)
    for sentence, embedding in zip(SENTENCES, together, strict=True):
        assert torch.allclose(model.encode(sentence), embedding, atol=1e-6)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([Dense(16, 8)], "asks for the module 'Dense'"),
        (
            [Normalize(), Normalize()],
            "expected the modules Transformer, Pooling and.* found Transformer, Pooling, Normal",
        ),
    ],
)
def test_other_modules_are_refused(modules, message, tmp_path):
    save_tiny_encoder("bert", tmp_path / "encoder")
    first = [Transformer(str(tmp_path / "encoder")), Pooling(16)]
    SentenceTransformer(modules=[*first, *modules]).save(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match=message):
        MultiTaskModel.from_encoder(tmp_path / "saved", TASKS)


def write(folder, name, values):
    path = folder / name
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.is_file() else {}), **values}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("config_sentence_transformers.json", {"prompts": ["x"]}, "prompts: expected a mapping of names to texts"),
        ("config_sentence_transformers.json", {"prompts": {"a": 3}}, "prompts: expected a mapping of names to texts"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "default_prompt_name: unknown prompt 'q'"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim: expected a whole number above 0"),
        ("1_Pooling/config.json", {"include_prompt": "no"}, "include_prompt: expected true or false, found 'no'"),
        ("sentence_bert_config.json", {"do_lower_case": 3}, "do_lower_case: expected true or false, found 3"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "asks for transformer_task 'fill-mask'"),
    ],
)
def test_settings_that_cannot_be_used_are_named(name, values, message, tmp_path):
    save_tiny_encoder("bert", tmp_path, pooling="mean_tokens")
    write(tmp_path, name, values)
    with pytest.raises(ValueError, match=message):
        MultiTaskModel.from_encoder(tmp_path, TASKS)


def test_a_class_of_another_package_is_no_module_of_sentence_transformers(tmp_path):
    save_tiny_encoder("bert", tmp_path, pooling="mean_tokens")
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=r"asks for the module 'custom_st.Transformer'"):
        MultiTaskModel.from_encoder(tmp_path, TASKS)


def warnings_of_loading(load):
    """Return what transformers warns of while something is loaded."""
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logging.getLogger("transformers").addHandler(handler)
    try:
        load()
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    return found


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_an_exported_encoder_loads_without_a_warning_of_its_pooler(architecture, encoders, tmp_path):
    model = MultiTaskModel.from_encoder(encoders[architecture], TASKS)
    model.export_encoder(tmp_path, load_tokenizer(encoders[architecture]))
    assert not warnings_of_loading(lambda: SentenceTransformer(str(tmp_path), device="cpu"))
    plain = warnings_of_loading(lambda: AutoModel.from_pretrained(tmp_path))
    assert any("pooler" in text for text in plain) == (architecture != "distilbert")


def test_an_encoder_half_is_not_exported(tmp_path):
    """sentence-transformers would run the decoder too."""
    save_any_encoder("bart", tmp_path)
    model = MultiTaskModel.from_encoder(tmp_path, TASKS)
    with pytest.raises(ValueError, match="export_encoder: sentence-transformers loads a model of type 'bart' with"):
        model.export_encoder(tmp_path / "exported", load_tokenizer(tmp_path))


def test_the_encoder_of_t5_has_the_same_vectors(tmp_path):
    save_any_encoder("t5", tmp_path)
    model, tokenizer = MultiTaskModel.from_encoder(tmp_path, TASKS), load_tokenizer(tmp_path)
    expected = model.encode(TEXTS, tokenizer, batch_size=4)
    assert_equal(expected, theirs(tmp_path))
    model.export_encoder(tmp_path / "exported", tokenizer)
    assert_equal(theirs(tmp_path / "exported"), expected)
