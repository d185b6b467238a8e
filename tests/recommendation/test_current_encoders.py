"""Current encoders: their table in docs/ENCODERS.md, their sizes, and those that a recommendation names."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hf_multitask.models.encoder_models import CHECKED_TYPES, check_encoder_type
from hf_multitask.recommendation.current_encoders import CURRENT, ENGLISH, find_alternatives
from hf_multitask.recommendation.encoder_catalogue import KNOWN

PAGE = Path(__file__).parents[2] / "docs" / "ENCODERS.md"
# Layers, hidden and intermediate size of the encoders that have them on their model card.
SIZES = {
    "answerdotai/ModernBERT-base": (22, 768, 1152, 50368),
    "answerdotai/ModernBERT-large": (28, 1024, 2624, 50368),
    "jhu-clsp/ettin-encoder-17m": (7, 256, 384, 50368),
    "jhu-clsp/ettin-encoder-32m": (10, 384, 576, 50368),
    "jhu-clsp/ettin-encoder-68m": (19, 512, 768, 50368),
    "jhu-clsp/ettin-encoder-150m": (22, 768, 1152, 50368),
    "jhu-clsp/ettin-encoder-400m": (28, 1024, 2624, 50368),
    "jhu-clsp/mmBERT-small": (22, 384, 1152, 256000),
    "jhu-clsp/mmBERT-base": (22, 768, 1152, 256000),
    "nomic-ai/nomic-embed-text-v1.5": (12, 768, 3072, 30528),
    "intfloat/e5-base": (12, 768, 3072, 30522),
    "BAAI/bge-base-en-v1.5": (12, 768, 3072, 30522),
}
BY_NAME = {encoder.name: encoder for encoder in CURRENT}


def test_the_page_lists_them_with_their_facts():
    text = PAGE.read_text(encoding="utf-8").partition("## Current encoders")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    expected = [
        [
            f"[{encoder.name}](https://huggingface.co/{encoder.name})",
            str(encoder.millions),
            f"{encoder.context:,}",
            encoder.license,
            encoder.languages,
            f"`{encoder.model_type}`",
            encoder.use,
        ]
        for encoder in CURRENT
    ]
    assert rows[2:] == expected


def test_no_rule_replaces_one_that_a_config_names():
    assert not BY_NAME.keys() & KNOWN.keys()


def test_their_architectures_are_checked():
    for encoder in CURRENT:
        assert encoder.model_type in CHECKED_TYPES
        check_encoder_type(encoder.name, AutoConfig.for_model(encoder.model_type))


@pytest.mark.parametrize("name", SIZES)
def test_the_number_of_weights_follows_from_the_sizes(name):
    layers, hidden, inside, vocabulary = SIZES[name]
    config = AutoConfig.for_model(
        BY_NAME[name].model_type,
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=inside,
        vocab_size=vocabulary,
        num_attention_heads=hidden // 64,
    )
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert model.num_parameters() / 1e6 == pytest.approx(BY_NAME[name].millions, rel=0.03)


@pytest.mark.parametrize("is_english", [True, False])
@pytest.mark.parametrize("long_texts", [True, False])
def test_alternatives_fit_the_texts(is_english, long_texts):
    found = find_alternatives(is_english, 110, long_texts)
    assert len(found) == 3
    for encoder in found:
        assert (encoder.languages == ENGLISH) == is_english
        assert not long_texts or encoder.context > 512
    distances = [abs(encoder.millions - 110) for encoder in found]
    assert distances == sorted(distances)


def test_an_alternative_says_its_size_context_and_license():
    assert re.fullmatch(
        r"jhu-clsp/ettin-encoder-17m \(17 million weights, 8,192 tokens, MIT\)",
        str(find_alternatives(True, 1, True)[0]),
    )
