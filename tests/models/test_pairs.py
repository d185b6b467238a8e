"""Pairs of texts: tokenized as by the tokenizer, and cut so that both texts remain."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from hf_multitask import TaskConfig, load_tokenizer
from hf_multitask.models.text_alignment import Aligner
from tests.conftest import MINILM
from tests.tiny import SENTENCES, SPECIAL, TOKENIZERS

INTENT = TaskConfig("intent", "sequence_classification", labels=["a", "b"])
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"])
INPUTS = ["input_ids", "token_type_ids", "attention_mask"]
PAIRS = [
    *pairwise(SENTENCES),
    ("Ärger in\tNew York,\u200b morgen!", "שלום  עולם"),
    ("it's <mask> ##s", "</s> play"),
    ("one", " two  "),
    ("alone", None),
    ("\u200b", "\u200b"),
]
TEMPLATES = {
    "template": lambda first, last: processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[first, last]
    ),
    "bert": lambda first, last: processors.BertProcessing(last, first),
    "roberta": lambda first, last: processors.RobertaProcessing(last, first),
    "none": lambda first, last: processors.ByteLevel(trim_offsets=False),
}


def make_tokenizer(kind, template):
    tokenizer = TOKENIZERS[kind]()
    tokenizer.post_processor = TEMPLATES[template](
        *((token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>"))
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=INPUTS, **SPECIAL)


WORDPIECE = {template: make_tokenizer("wordpiece", template) for template in TEMPLATES}


def align(aligner, pairs, words=None):
    texts = words or [[text] for text, _ in pairs]
    columns = aligner({"words": texts, "text_pair": [pair for _, pair in pairs]})
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def assert_encoded(row, encoded):
    assert {name: row[name] for name in encoded} == dict(encoded)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_ids_are_those_of_the_tokenizer(kind, template):
    tokenizer = make_tokenizer(kind, template)
    rows = align(Aligner(tokenizer, [INTENT]), PAIRS)
    for row, (text, pair) in zip(rows, PAIRS, strict=True):
        encoded = tokenizer(text, pair)
        assert_encoded(row, encoded)
        assert row["length"] == len(encoded["input_ids"])
        assert row["subwords"] == sum(i is not None for i in encoded.sequence_ids())
        assert not row["truncated"]
        assert row["window_lengths"] == [row["length"]]


def test_ids_of_a_real_tokenizer():
    tokenizer = load_tokenizer(MINILM)
    for row, pair in zip(align(Aligner(tokenizer, [INTENT]), PAIRS), PAIRS, strict=True):
        assert_encoded(row, tokenizer(*pair))
        assert set(row["token_type_ids"]) == ({0} if pair[1] is None else {0, 1})


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_only_words_of_the_first_text_carry_tags(kind):
    tokenizer = make_tokenizer(kind, "template")
    words = [text.split() for text in SENTENCES]
    # Each text paired with itself, except one row without a second text.
    pairs = [(None, None if i == 3 else " ".join(row[::-1])) for i, row in enumerate(words)]
    for which in ("first", "last"):
        aligner = Aligner(tokenizer, [SLOTS], label_subwords=which)
        alone = aligner({"words": words})
        assert [row["tag_positions"] for row in align(aligner, pairs, words)] == alone["tag_positions"]
    labels = [{"slots": [1] * len(row)} for row in words]
    batch = {"words": words, "text_pair": [pair for _, pair in pairs], "labels": labels}
    columns = Aligner(tokenizer, [SLOTS], label_subwords="all")(batch)
    assert columns["tag_positions"] == [list(range(1, length - 1)) for length in alone["length"]]
    assert [len(row["slots"]) for row in columns["labels"]] == [length - 2 for length in alone["length"]]


WORDS = [
    word for word in dict.fromkeys(" ".join(SENTENCES[:7]).split()) if len(WORDPIECE["none"](word)["input_ids"]) == 1
]
brief = settings(max_examples=100)


@st.composite
def long_pairs(draw):
    """Draw two texts whose words have one subword each, and a maximum length that they may exceed."""
    first, second = (draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30)) for _ in range(2))
    return first, second, draw(st.integers(6, 32))


@pytest.mark.parametrize("template", TEMPLATES)
@brief
@given(pair=long_pairs())
def test_pairs_are_truncated_as_the_tokenizer_does(template, pair):
    tokenizer, (first, second, max_length) = WORDPIECE[template], pair
    aligner = Aligner(tokenizer, [SLOTS], max_length, truncate=True)
    (row,) = align(aligner, [(None, " ".join(second))], [first])
    encoded = tokenizer(first, second, is_split_into_words=True, truncation="longest_first", max_length=max_length)
    assert_encoded(row, encoded)
    assert row["truncated"] == (row["subwords"] > sum(i is not None for i in encoded.sequence_ids()))
    assert row["subwords"] == len(first) + len(second)
    assert row["lost_words"] == row["tag_positions"].count(-1) == len(first) - encoded.sequence_ids().count(0)


@pytest.mark.parametrize("template", TEMPLATES)
@brief
@given(pair=long_pairs(), overlap=st.integers(0, 30))
def test_windows_of_the_first_text_have_the_second_beside_them(template, pair, overlap):
    tokenizer, (first, second, max_length) = WORDPIECE[template], pair
    overlap = min(overlap, max_length - tokenizer.num_special_tokens_to_add() - 1)
    (row,) = align(Aligner(tokenizer, [SLOTS], max_length, overlap), [(None, " ".join(second))], [first])
    cut = tokenizer(first, second, is_split_into_words=True, truncation="longest_first", max_length=max_length)
    room, kept = cut.sequence_ids().count(0), second[: cut.sequence_ids().count(1)]
    starts = [0]
    while starts[-1] + room < len(first):
        starts.append(starts[-1] + room - min(overlap, room - 1))
    windows = [tokenizer(first[start : start + room], kept, is_split_into_words=True) for start in starts]
    assert row["window_lengths"] == [len(window["input_ids"]) for window in windows]
    assert max(row["window_lengths"]) <= max_length
    assert_encoded(row, {name: [value for window in windows for value in window[name]] for name in INPUTS})
    assert row["truncated"] == (len(kept) < len(second))
    words = [
        start + word if text == 0 else None
        for start, window in zip(starts, windows, strict=True)
        for word, text in zip(window.word_ids(), window.sequence_ids(), strict=True)
    ]
    assert [words[position] for position in row["tag_positions"]] == list(range(len(first)))
    aligner = Aligner(tokenizer, [SLOTS], max_length, overlap, label_subwords="all")
    columns = aligner({"words": [first], "text_pair": [" ".join(second)], "labels": [{"slots": [0] * len(first)}]})
    assert sorted(columns["tag_positions"][0]) == sorted(row["tag_positions"]), "each subword counts once"


def test_a_length_that_has_no_room_for_two_texts_is_named():
    aligner = Aligner(WORDPIECE["roberta"], [INTENT], max_length=5)
    assert align(aligner, [("rain in paris", None)])[0]["window_lengths"] == [5]
    with pytest.raises(ValueError, match=r"max_length=5 leaves no room for two texts besides 4 special tokens"):
        align(aligner, [("rain in paris", "rain")])


def test_two_endless_texts_are_cut():
    endless = "play paris " * 100_000
    aligner = Aligner(WORDPIECE["template"], [INTENT], max_length=48)
    (row,) = align(aligner, [(endless, endless)])
    assert row["truncated"]
    assert max(row["window_lengths"]) == 48
    aligner = Aligner(WORDPIECE["template"], [INTENT], max_length=48, truncate=True)
    assert align(aligner, [(endless, endless)])[0]["length"] == 48
