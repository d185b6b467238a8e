"""An encoder of which it is known what can be read at each depth."""

import random

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from hf_multitask import RunConfig
from tests.tiny import save_tiny_encoder

# A word for each class: where states contain their token, classes are separable by a plane.
WORDS = {"music": "PlayMusic", "weather": "GetWeather", "book": "RateBook", "table": "BookTable"}
OTHERS = ["some", "the", "in"]
PLACES = ["paris", "london", "york"]


def make_rows(count, seed=0):
    """Return rows whose intent is the word of its class that is in it, and whose slots are the places in it."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        word = list(WORDS)[i % len(WORDS)]
        tokens = [*generator.choices(OTHERS, k=2), word, generator.choice(PLACES), generator.choice(OTHERS)]
        generator.shuffle(tokens)
        slots = ["B-place" if token in PLACES else "O" for token in tokens]
        rows.append({"tokens": tokens, "intent": WORDS[word], "slots": slots})
    return rows


TASKS = [{"name": "intent", "type": "sequence_classification"}, {"name": "slots", "type": "token_classification"}]


@pytest.fixture(scope="session")
def forgetful_encoder(tmp_path_factory):
    """Return a folder with an encoder whose last layer gives the same state for every token."""
    folder = save_tiny_encoder("bert", tmp_path_factory.mktemp("forgetful"))
    encoder = AutoModel.from_pretrained(folder)
    norm = encoder.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.fill_(0.5)
    encoder.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.fixture
def make_config(encoder):
    """Return a function that makes a config of rows in memory."""

    def make(rows, tasks=TASKS, validation=None, **changes):
        data = changes.pop("data", {"train": rows} | ({} if validation is None else {"validation": validation}))
        values = {"encoder": str(encoder), "tasks": tasks, "data": data, "output_dir": "unused", **changes}
        return RunConfig.from_dict(values)

    return make
