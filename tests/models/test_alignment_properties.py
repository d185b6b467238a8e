"""Words, subwords and windows for any words and tokenizer, against independent definitions."""

import os
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_multitask import MultiTaskDataCollator, MultiTaskModel, TaskConfig, prepare_datasets
from hf_multitask.models import MultiTaskOutput
from hf_multitask.models.decoding import decode
from hf_multitask.models.predictor import OutputOptions, Predictor
from hf_multitask.models.text_alignment import Aligner
from hf_multitask.models.text_inputs import read_input
from hf_multitask.models.text_words import join_words, split_words
from hf_multitask.training.metrics import task_metrics
from tests.predictions import predict
from tests.tiny import SENTENCES, TOKENIZERS, make_tokenizer

SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"])
TOKENIZER = {kind: make_tokenizer(kind) for kind in TOKENIZERS}
SPECIAL_TOKENS = 2  # <s> and </s>
all_tokenizers = pytest.mark.parametrize("kind", TOKENIZERS)

CHARACTERS = st.one_of(
    st.sampled_from("abeinoprst"),
    st.sampled_from("éßıİſﬁǅñЖжщΣςאבשعربيเที่हिन्दीமி東京かなカ한글ქართ"),
    st.sampled_from(["e\u0301", "a\u0308\u0301", "\u0301", "\u20dd", "ש\u05b8", "م\u064e", "\u1112\u1161\u11ab"]),
    st.sampled_from(
        ["👍🏽", "👨\u200d👩\u200d👧", "🇩🇪", "❤\ufe0f", "1\ufe0f\u20e3", "🏴\U000e0067\U000e0062\U000e007f"]
    ),
    st.sampled_from(["\u200b", "\u200c", "\u200d", "\u200e", "\u202e", "\ufeff", "\u00ad", "\u2060", "\ufffd"]),
    st.sampled_from(["\0", "\x01", "\x1c", "\x7f", "\u0085", "\u2028", "\u2029", "\u00a0", "\u3000", "\t", "\n", " "]),
    st.sampled_from([*".,!?'’\"-_/()[]#@%$€§…—“”「」،؟", "##", "▁", "Ġ", "Ċ"]),
    st.sampled_from("0123456789²½٣४Ⅷ"),
    st.sampled_from(["<s>", "</s>", "<pad>", "<unk>", "<mask>"]),
    st.characters(exclude_categories=["Cs"]),
)
WORD = st.one_of(
    st.lists(CHARACTERS, max_size=6).map("".join),
    st.lists(CHARACTERS, max_size=6).map("".join),
    st.sampled_from(
        [*" ".join(SENTENCES).split(), "", "nebu" * 17, "!" * 65, "東" * 60, "e\u0301" * 31, "\u200b" * 61]
    ),
)
WORDS = st.lists(WORD, min_size=1, max_size=12)
TEXT = st.lists(st.one_of(WORD, st.sampled_from([" ", "  ", "\n"])), min_size=1, max_size=12).map("".join)

# A few examples for each of many tokenizers; HF_MULTITASK_EXAMPLES sets a larger number.
brief = settings(max_examples=int(os.environ.get("HF_MULTITASK_EXAMPLES", "12")))


@st.composite
def lengths(draw):
    """Draw a maximum length and a valid overlap."""
    max_length = draw(st.integers(SPECIAL_TOKENS + 1, 20))
    return max_length, draw(st.integers(0, max_length - SPECIAL_TOKENS - 1))


def subwords_of(kind, words):
    """Tokenize each word separately, as in running text."""
    backend = TOKENIZER[kind].backend_tokenizer
    backend.no_truncation()
    in_front = " " if kind in ("byte-level", "byte-level-split") else ""
    return [
        backend.encode(word if i == 0 or not word else in_front + word, add_special_tokens=False).ids
        for i, word in enumerate(words)
    ]


def row_of(aligner, words, tags=None):
    """Align one row."""
    batch = {"words": [words]} if tags is None else {"words": [words], "labels": [{"slots": tags}]}
    return {name: values[0] for name, values in aligner(batch).items()}


def place_of(position, row, step):
    """Return the window of a position, and the index of its subword in the whole row."""
    ends = list(accumulate(row["window_lengths"]))
    window = next(i for i, end in enumerate(ends) if position < end)
    return window, position - (ends[window] - row["window_lengths"][window]) - 1 + window * step


def context(window, place, starts, room, total):
    """Return the context of a subword in a window, on its shorter side; the ends of the text do not limit it."""
    before = place - starts[window] if starts[window] > 0 else total
    behind = starts[window] + room - 1 - place if starts[window] + room < total else total
    return min(before, behind)


@all_tokenizers
@brief
@given(words=WORDS, length=lengths())
def test_windows_are_short_enough_overlap_as_asked_and_together_hold_every_subword(kind, words, length):
    max_length, overlap = length
    row = row_of(Aligner(TOKENIZER[kind], [SLOTS], max_length, overlap), words)
    ids = [i for word in subwords_of(kind, words) for i in word]
    room = max_length - SPECIAL_TOKENS
    expected = [ids[:room]]
    while len(ids) > room + (len(expected) - 1) * (room - overlap):
        start = len(expected) * (room - overlap)
        expected.append(ids[start : start + room])
    first, last = (TOKENIZER[kind].convert_tokens_to_ids(token) for token in ("<s>", "</s>"))
    assert row["input_ids"] == [i for window in expected for i in (first, *window, last)]
    assert row["window_lengths"] == [len(window) + SPECIAL_TOKENS for window in expected]
    assert row["length"] == len(row["input_ids"]) == len(row["attention_mask"])
    assert max(row["window_lengths"]) <= max_length


@all_tokenizers
@pytest.mark.parametrize("which", ["first", "last"])
@brief
@given(words=WORDS, length=lengths())
def test_each_word_is_read_once_at_its_own_subword_where_it_has_most_context(kind, which, words, length):
    max_length, overlap = length
    row = row_of(Aligner(TOKENIZER[kind], [SLOTS], max_length, overlap, label_subwords=which), words)
    subwords = subwords_of(kind, words)
    total, room = sum(map(len, subwords)), max_length - SPECIAL_TOKENS
    starts = [i * (room - overlap) for i in range(len(row["window_lengths"]))]
    ends = list(accumulate(map(len, subwords)))
    assert len(row["tag_positions"]) == len(words)
    assert row["lost_words"] == sum(not ids for ids in subwords)
    for position, ids, end in zip(row["tag_positions"], subwords, ends, strict=True):
        if not ids:
            assert position == -1
            continue
        window, place = place_of(position, row, room - overlap)
        assert place == (end - len(ids) if which == "first" else end - 1)
        assert row["input_ids"][position] == ids[0 if which == "first" else -1]
        holding = [i for i, start in enumerate(starts) if start <= place < start + room]
        most = max(context(i, place, starts, room, total) for i in holding)
        assert context(window, place, starts, room, total) == most


@all_tokenizers
@brief
@given(words=WORDS, length=lengths(), data=st.data())
def test_all_subwords_have_their_words_tag_once(kind, words, length, data):
    max_length, overlap = length
    tags = data.draw(st.lists(st.sampled_from([-100, 0, 1, 2, 3, 4]), min_size=len(words), max_size=len(words)))
    row = row_of(Aligner(TOKENIZER[kind], [SLOTS], max_length, overlap, label_subwords="all"), words, tags)
    step = max_length - SPECIAL_TOKENS - overlap
    subwords = subwords_of(kind, words)
    inside = {-100: -100, 0: 0, 1: 2, 2: 2, 3: 4, 4: 4}
    expected = [inside[tag] if i else tag for tag, ids in zip(tags, subwords, strict=True) for i in range(len(ids))]
    pairs = list(zip(row["tag_positions"], row["labels"]["slots"], strict=True))
    found = {place_of(position, row, step)[1]: tag for position, tag in pairs if position >= 0}
    assert found == dict(enumerate(expected))
    without = [tag for tag, ids in zip(tags, subwords, strict=True) if not ids]
    assert [tag for position, tag in pairs if position < 0] == without
    assert len(pairs) == len(expected) + len(without)


@all_tokenizers
@pytest.mark.parametrize("which", ["first", "last"])
@brief
@given(words=WORDS, max_length=st.integers(SPECIAL_TOKENS + 1, 20))
def test_truncated_rows_lose_the_words_behind_the_cut_and_count_them(kind, which, words, max_length):
    row = row_of(Aligner(TOKENIZER[kind], [SLOTS], max_length, truncate=True, label_subwords=which), words)
    subwords, room = subwords_of(kind, words), max_length - SPECIAL_TOKENS
    assert row["truncated"] is (sum(map(len, subwords)) > room)
    assert row["length"] <= max_length
    expected, start = [], 0
    for ids in subwords:
        kept = range(start, min(start + len(ids), room))
        expected.append(-1 if not kept else 1 + (kept[0] if which == "first" else kept[-1]))
        start += len(ids)
    assert row["tag_positions"] == expected
    assert row["lost_words"] == expected.count(-1)


@all_tokenizers
@brief
@given(rows=st.lists(WORDS, min_size=1, max_size=4), length=lengths(), data=st.data())
def test_every_gold_word_is_scored_and_one_without_a_subword_counts_as_outside(kind, rows, length, data):
    max_length, overlap = length
    way = data.draw(st.sampled_from([{"overlap": overlap}, {"truncate": True}]))
    which = data.draw(st.sampled_from(["first", "last"]))
    aligner = Aligner(TOKENIZER[kind], [SLOTS], max_length, label_subwords=which, **way)
    labels = [{"slots": [1] * len(words)} for words in rows]
    columns = {"labels": labels, **aligner({"words": rows, "labels": labels})}
    prepared = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    batch = MultiTaskDataCollator(TOKENIZER[kind], [SLOTS])(prepared)
    # The output of a perfect model: the gold tag at the subword of each word.
    logits = torch.nn.functional.one_hot(batch["labels"]["slots"].clamp(min=0), 5).float()
    found = decode(SLOTS, logits, batch["tag_positions"]).numpy()
    scores = task_metrics(SLOTS, found, batch["labels"]["slots"].numpy())
    num_words, lost = sum(map(len, rows)), sum(columns["lost_words"])
    assert (batch["labels"]["slots"].numpy() != -100).sum() == num_words
    assert scores["recall"] == pytest.approx((num_words - lost) / num_words)
    assert scores["precision"] == (1.0 if lost < num_words else 0.0)


@all_tokenizers
@brief
@given(rows=st.lists(WORDS, min_size=1, max_size=5), length=lengths())
def test_positions_in_a_batch_point_to_the_subwords_of_the_row_alone(kind, rows, length):
    aligner = Aligner(TOKENIZER[kind], [SLOTS], *length)
    columns = aligner({"words": rows})
    prepared = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    batch = MultiTaskDataCollator(TOKENIZER[kind], [SLOTS], pad_to_multiple_of=4)(prepared)
    ids = batch["input_ids"].flatten().tolist()
    longest = batch["input_ids"].size(1)
    assert ("row_windows" in batch) == any(len(row["window_lengths"]) > 1 for row in prepared)
    owners = batch.get("row_windows", torch.eye(len(rows), dtype=torch.bool))
    for i, row in enumerate(prepared):
        for position, flat in zip(row["tag_positions"], batch["tag_positions"][i].tolist(), strict=False):
            if "row_windows" not in batch and flat >= 0:
                flat += i * longest
            assert (flat == -1) == (position == -1)
            assert flat == -1 or ids[flat] == row["input_ids"][position]
            assert flat == -1 or owners[i, flat // longest]
        assert (batch["tag_positions"][i, len(row["tag_positions"]) :] == -1).all()
        assert owners[i].sum() == len(row["window_lengths"])
    assert (owners.sum(0) == 1).all()
    assert batch["attention_mask"].sum() == sum(row["length"] for row in prepared)


@all_tokenizers
@brief
@given(rows=st.lists(WORDS, min_size=1, max_size=4))
def test_lost_words_and_empty_rows_are_reported(kind, rows):
    rows = [{"tokens": words, "slots": ["B-x"] * len(words)} for words in rows]
    report = prepare_datasets({"train": rows}, TOKENIZER[kind], [SLOTS], max_length=9).reports["train"]
    subwords = [subwords_of(kind, row["tokens"]) for row in rows]
    assert report.words == sum(map(len, subwords))
    assert report.lost_words == sum(not ids for words in subwords for ids in words)
    assert report.empty_rows == sum(not any(words) for words in subwords)
    assert report.windowed_rows == sum(sum(map(len, words)) > 9 - SPECIAL_TOKENS for words in subwords)


@pytest.fixture(scope="module")
def model(encoder):
    """Return a model that predicts many tags; its vocabulary contains the ids of every tokenizer."""
    torch.manual_seed(0)
    tasks = [TaskConfig("intent", "sequence_classification", labels=["a", "b"]), SLOTS]
    model = MultiTaskModel.from_encoder(encoder, tasks)
    torch.nn.init.normal_(model.heads["slots"].classifier.weight, std=2.0)
    return model


def check_entities(prediction, text, words):
    """Check that there is one label per word, and that entities are whole words of the text."""
    assert len(prediction["labels"]) == len(words)
    starts, ends = {word.start for word in words}, {word.end for word in words}
    for entity in prediction["entities"]:
        assert entity["text"] == text[entity["start"] : entity["end"]]
        assert entity["start"] in starts
        assert entity["end"] in ends


@all_tokenizers
@brief
@given(text=TEXT.filter(str.strip))
def test_entities_of_a_text_are_its_own_characters(kind, text, model):
    prediction = predict(model, TOKENIZER[kind], [text])[0]["slots"]
    check_entities(prediction, text, split_words(text))
    assert all(entity["text"] == entity["text"].strip() != "" for entity in prediction["entities"])


@all_tokenizers
@brief
@given(words=WORDS)
def test_entities_of_words_are_characters_of_the_words_joined(kind, words, model):
    prediction = predict(model, TOKENIZER[kind], [{"tokens": words}])[0]["slots"]
    check_entities(prediction, *join_words(words))


@all_tokenizers
@brief
@given(words=WORDS, data=st.data())
def test_entities_of_words_in_a_text_are_characters_of_that_text(kind, words, data, model):
    gaps = [data.draw(st.sampled_from(["", " ", "  ", "\n", "\u200b"])) for _ in words]
    text = "".join(part for pair in zip(gaps, words, strict=True) for part in pair)
    with_text = predict(model, TOKENIZER[kind], [{"text": text, "tokens": words}])[0]["slots"]
    alone = predict(model, TOKENIZER[kind], [{"tokens": words}])[0]["slots"]
    assert with_text["labels"] == alone["labels"]
    assert len(with_text["entities"]) == len(alone["entities"])
    for entity in with_text["entities"]:
        assert entity["text"] == text[entity["start"] : entity["end"]]


class Oracle:
    """A stand-in for a perfect model: it predicts the given ids at every word."""

    def __init__(self, task, ids):
        self.config = SimpleNamespace(tasks=[task], overlap=None, truncate=False)
        self.device, self.task, self.ids, self.crfs = torch.device("cpu"), task, ids, {}

    def eval(self):
        return self

    def __call__(self, tag_positions, tasks, **inputs):
        logits = torch.zeros(*tag_positions.shape, self.task.num_labels)
        for i, ids in enumerate(self.ids):
            logits[i, np.arange(len(ids)), ids] = 9.0
        return MultiTaskOutput(logits={self.task.name: logits})


@st.composite
def rows_with_spans(draw):
    """Draw rows of text with spans that start and end at words and do not overlap."""
    rows = []
    for text in draw(st.lists(TEXT.filter(str.strip), min_size=1, max_size=3)):
        words = split_words(text)
        cuts = sorted(draw(st.sets(st.integers(0, len(words)), max_size=8)))
        pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
        spans = [
            {"start": words[a].start, "end": words[b - 1].end, "label": draw(st.sampled_from(["x", "y"]))}
            for a, b in pairs
        ]
        rows.append({"text": text, "ner": spans})
    return rows


@all_tokenizers
@brief
@given(rows=rows_with_spans(), with_tokens=st.booleans())
def test_spans_of_whole_words_come_back_with_the_same_characters(kind, rows, with_tokens):
    assume(any(row["ner"] for row in rows))
    if with_tokens:
        rows = [{**row, "tokens": [word.text for word in split_words(row["text"])]} for row in rows]
    task = TaskConfig("ner", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"])
    data = prepare_datasets({"train": rows}, TOKENIZER[kind], [task], span_mismatch="error")
    gold = [row["labels"]["ner"] for row in data["train"]]
    predictions = []
    for row, ids in zip(rows, gold, strict=True):
        predictor = Predictor.of_model(Oracle(data.tasks[0], [ids]), TOKENIZER[kind], OutputOptions())
        predictions += predictor.predict([read_input(row, "input", True)], batch_size=1)
    for row, prepared, prediction in zip(rows, data["train"], predictions, strict=True):
        found = [{key: entity[key] for key in ("start", "end", "label")} for entity in prediction["ner"]["entities"]]
        words = split_words(row["text"])
        lost = [word for word, position in zip(words, prepared["tag_positions"], strict=True) if position < 0]
        whole = [s for s in row["ner"] if not any(s["start"] <= word.start < s["end"] for word in lost)]
        assert [entity for entity in found if entity in whole] == whole
        assert found == whole or lost


def test_a_tokenizer_that_cuts_on_the_left_is_refused():
    tokenizer = make_tokenizer("wordpiece")
    tokenizer.truncation_side = "left"
    with pytest.raises(ValueError, match="must cut on the right, found truncation_side='left'"):
        Aligner(tokenizer, [SLOTS], 8)
