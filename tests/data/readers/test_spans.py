"""Spans of characters become tags: exactly if they fit the words, otherwise as configured."""

import re

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from hf_multitask.data.readers.spans import SPAN_MISMATCH, Span, is_span_list, read_span, read_spans
from hf_multitask.models.tags_iob2 import is_tag, tag_spans
from hf_multitask.models.text_words import Word, locate_words, split_words

PLACE = "rows.jsonl:3: column 'ner'"
E_ACUTE = "e\u0301"
FAMILY = "👨\u200d👩\u200d👧"


def read(text, *spans, mismatch="widen", tokens=None):
    words = split_words(text) if tokens is None else locate_words(tokens, text)
    return read_spans(text, words, list(spans), PLACE, mismatch)


def entities(text, tags, words):
    return [
        (words[span.start].start, words[span.end - 1].end, span.label)
        for span in tag_spans([tag or "O" for tag in tags])
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"start": 0, "end": 5, "label": "PER"}], True),
        ([[0, 5, "PER"]], True),
        (((0, 5, "PER"),), True),
        (["B-PER", {"start": 0}], True),
        (["B-PER", "O", None], False),
        ([None], False),
        ([], False),
        ("O", False),
        (None, False),
        ({"start": 0, "end": 5, "label": "PER"}, False),
    ],
)
def test_spans_and_tags_are_distinguished(value, expected):
    assert is_span_list(value) is expected


@pytest.mark.parametrize("empty", [True, False])
def test_the_caller_decides_the_meaning_of_an_empty_list(empty):
    assert is_span_list([], empty=empty) is empty
    assert is_span_list(["O"], empty=empty) is False


@pytest.mark.parametrize(
    "item",
    [
        {"start": 8, "end": 13, "label": "LOC"},
        {"start": 8, "end": 13, "label": "LOC", "text": "Paris", "id": 7, "token_start": 2},
        {"start_offset": 8, "end_offset": 13, "label": "LOC", "id": 7},
        [8, 13, "LOC"],
        (8, 13, "LOC"),
    ],
)
def test_each_form_of_a_span_gives_the_same_tags(item):
    assert read("Anna in Paris.", [0, 4, "PER"], item) == (["B-PER", "O", "B-LOC", "O"], 0)


def test_a_row_without_spans_has_only_outside_tags():
    assert read("Anna in Paris") == (["O", "O", "O"], 0)


def test_spans_may_be_unordered_and_adjacent():
    tags, mismatched = read("Anna Karenina Paris", [14, 19, "LOC"], [5, 13, "PER"], [0, 4, "PER"])
    assert (tags, mismatched) == (["B-PER", "B-PER", "B-LOC"], 0)


@pytest.mark.parametrize("mismatch", SPAN_MISMATCH)
def test_white_space_at_the_edges_is_not_a_mismatch(mismatch):
    assert read("in New York now", [2, 12, "LOC"], mismatch=mismatch) == (["O", "B-LOC", "I-LOC", "O"], 0)


def test_spans_that_share_only_white_space_do_not_overlap():
    assert read("Anna Paris", [0, 5, "PER"], [4, 10, "LOC"]) == (["B-PER", "B-LOC"], 0)


@pytest.mark.parametrize(
    ("mismatch", "tags"),
    [("widen", ["O", "B-LOC", "I-LOC", "B-PER"]), ("drop", ["O", None, None, "B-PER"])],
)
def test_a_span_that_cuts_words_is_widened_or_dropped_and_counted(mismatch, tags):
    assert read("in New York Anna", [4, 10, "LOC"], [12, 16, "PER"], mismatch=mismatch) == (tags, 1)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ([4, 11, "LOC"], r"\(4 to 11, 'LOC'\) 'ew York' starts inside the word 'New' \(3 to 6\)"),
        ([3, 9, "LOC"], r"\(3 to 9, 'LOC'\) 'New Yo' ends inside the word 'York' \(7 to 11\)"),
    ],
)
def test_a_span_that_cuts_a_word_is_refused_with_error(span, message):
    message = rf"rows\.jsonl:3: column 'ner': span 0 {message}; expected a span of whole words; other values .*'drop'"
    with pytest.raises(ValueError, match=message):
        read("in New York", span, mismatch="error")


@pytest.mark.parametrize(
    ("mismatch", "spans", "tags"),
    [
        ("widen", [[0, 3, "A"], [4, 8, "B"]], ["B-A", "O"]),
        ("widen", [[4, 8, "B"], [0, 3, "A"]], ["B-A", "O"]),
        ("widen", [[0, 3, "A"], [4, 13, "A"]], ["B-A", "B-A"]),
        ("drop", [[0, 3, "A"], [4, 8, "B"]], [None, "O"]),
        ("drop", [[0, 3, "A"], [4, 13, "B"]], [None, None]),
    ],
)
def test_of_spans_that_meet_in_a_word_one_gets_it_and_both_are_counted(mismatch, spans, tags):
    assert read("New-York city", *spans, mismatch=mismatch) == (tags, 2)


def test_a_word_goes_to_the_first_span_even_if_that_span_lost_its_other_words():
    assert read("a-b c-d", [0, 1, "A"], [2, 5, "B"], [6, 7, "C"]) == (["B-A", "B-B"], 3)


COMBINED = [
    pytest.param(f"Zo{E_ACUTE} bar", 3, 4, id="mark"),
    pytest.param(f"{E_ACUTE} bar", 1, 2, id="mark at the start"),
    pytest.param(f"{FAMILY} bar", 2, 5, id="joined emoji"),
    pytest.param("👍🏽 bar", 1, 2, id="skin tone"),
    pytest.param("❤\ufe0f bar", 1, 2, id="variation selector"),
    pytest.param("1\ufe0f\u20e3 bar", 1, 3, id="keycap"),
    pytest.param("🇩🇪 bar", 1, 2, id="flag"),
    pytest.param("🏴\U000e0067\U000e0062\U000e007f bar", 1, 4, id="flag of tags"),
    pytest.param("मैं bar", 1, 3, id="vowel sign"),
    pytest.param("\u1112\u1161\u11ab bar", 2, 3, id="Hangul parts"),
]


@pytest.mark.parametrize(("text", "cut", "end"), COMBINED)
def test_a_span_that_cuts_a_combining_sequence_gets_all_of_it(text, cut, end):
    words = split_words(text)
    for span in ([0, cut, "X"], [cut, end, "X"]):
        tags, mismatched = read(text, span)
        assert (entities(text, tags, words), mismatched) == ([(0, end, "X")], 1)
        assert read(text, span, mismatch="drop") == ([None] * (len(words) - 1) + ["O"], 1)
        with pytest.raises(ValueError, match=r"span 0 .* (starts|ends) inside the (combined character|word) "):
            read(text, span, mismatch="error")
    assert read(text, [0, end, "X"], mismatch="error").mismatched == 0


def test_the_message_names_the_combined_character_that_is_cut():
    with pytest.raises(ValueError, match="'Zoe' ends inside the combined character 'e\u0301'; expected a span of"):
        read(f"Zo{E_ACUTE}", [0, 3, "X"], mismatch="error", tokens=["Zoe", "\u0301"])


def test_adjacent_flags_are_cut_between_but_not_inside():
    assert read("🇩🇪🇫🇷", [0, 2, "A"], [2, 4, "B"], mismatch="error").tags == ["B-A", "B-B"]
    assert read("🇩🇪🇫🇷", [0, 3, "A"]) == (["B-A", "I-A"], 1)
    assert read("🇩🇪🇫🇷", [0, 3, "A"], tokens=list("🇩🇪🇫🇷")) == (["B-A", "I-A", "I-A", "I-A"], 1)


def test_widening_to_a_whole_character_continues_to_the_end_of_its_last_word():
    assert read(f"カﾞb{E_ACUTE} c", [0, 1, "X"], tokens=["カ", f"ﾞb{E_ACUTE}", "c"]) == (["B-X", "I-X", "O"], 1)
    assert read("aﾞb\u0301c", [0, 1, "X"], tokens=["a", "ﾞb", "\u0301", "c"]) == (["B-X", "I-X", "I-X", "O"], 1)


def test_one_of_two_spans_in_a_combining_sequence_gets_it():
    assert read(E_ACUTE, [0, 1, "A"], [1, 2, "B"]) == (["B-A"], 2)
    assert read(E_ACUTE, [0, 1, "A"], [1, 2, "B"], tokens=list(E_ACUTE)) == (["B-A", "I-A"], 2)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        pytest.param(" \u0301a", [1, 3, "X"], id="mark without a letter"),
        pytest.param("ه\u200d.", [0, 2, "X"], id="joiner in front of punctuation"),
        pytest.param("ක\u200d ක", [0, 2, "X"], id="joiner in front of a space"),
    ],
)
def test_an_apparent_cut_that_is_not_one(text, span):
    assert read(text, span, mismatch="error").mismatched == 0


def test_given_tokens_may_leave_characters_out():
    assert read("(New York)", [0, 10, "LOC"], tokens=["New", "York"], mismatch="error").tags == ["B-LOC", "I-LOC"]
    assert read("👨\u200d👩", [0, 1, "X"], tokens=["👨", "👩"]) == (["B-X", "I-X"], 1)


def test_white_space_at_the_edges_of_given_tokens_is_not_a_word():
    tags = read("New York", [0, 3, "A"], [4, 8, "B"], tokens=["New", " York"], mismatch="error").tags
    assert tags == ["B-A", "B-B"]
    assert read("a  b", [0, 4, "A"], tokens=["a", "  ", "b"], mismatch="error").tags == ["B-A", "I-A", "I-A"]


@pytest.mark.parametrize("mismatch", ["widen", "drop"])
def test_a_span_without_any_word_is_counted(mismatch):
    assert read("(Anna)", [0, 1, "X"], tokens=["Anna"], mismatch=mismatch) == (["O"], 1)


def test_a_span_without_any_word_is_refused_with_error():
    with pytest.raises(ValueError, match=r"span 0 \(0 to 1, 'X'\) '\(' covers none of the words"):
        read("(Anna)", [0, 1, "X"], tokens=["Anna"], mismatch="error")


@pytest.mark.parametrize("mismatch", SPAN_MISMATCH)
@pytest.mark.parametrize("second", [[0, 8, "B"], [4, 13, "B"], [7, 8, "B"], [0, 8, "A"]])
def test_overlapping_spans_are_refused_with_both_names(mismatch, second):
    message = r"rows\.jsonl:3.*span . \(.* and span . \(.* overlap; nested and .* not supported by one token task"
    with pytest.raises(ValueError, match=message) as raised:
        read("New York city", second, [0, 8, "A"], mismatch=mismatch)
    assert "span 0 (" in str(raised.value)
    assert "span 1 (" in str(raised.value)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("PER", r"expected \{'start': 0, .*\} or \[0, 5, 'PER'\], found 'PER'"),
        ([0, 5], r"expected .*, found \[0, 5\]"),
        ({"start": 0, "end": 4}, r"found no 'label' in \{'start': 0, 'end': 4\}\.$"),
        ({"start": 0, "end": 4, "labell": "X", "id": 1}, r"found no 'label' in .* unknown key 'labell'.*mean 'label'"),
        ({"start_offset": 0, "end": 4, "label": "X"}, r"found no 'end_offset' in"),
        (["PER", 0, 4], r"the start must be a whole number, found 'PER' in \['PER', 0, 4\]"),
        ([0, 4.0, "X"], r"the end must be a whole number, found 4\.0"),
        ([False, 4, "X"], r"the start must be a whole number, found False"),
        ([0, None, "X"], r"the end must be a whole number, found None"),
        ([-1, 4, "X"], r"expected 0 <= start < end, found -1 to 4"),
        ([4, 4, "X"], r"expected 0 <= start < end, found 4 to 4"),
        ([4, 0, "X"], r"expected 0 <= start < end, found 4 to 0"),
        ([0, 4, ""], r"the label must be a string that is not empty, found ''"),
        ([0, 4, " "], r"the label must be a string that is not empty, found ' '"),
        ([0, 4, 1], r"the label must be a string that is not empty, found 1"),
        ([0, 4, "O"], r"the label 'O' is not allowed: it is the tag of words outside"),
        ({"start": 0, "end": 4, "label": "X", "text": 1}, r"the text must be a string, found 1"),
    ],
)
def test_malformed_spans_are_refused(item, message):
    with pytest.raises(ValueError, match=rf"^rows\.jsonl:3: column 'ner': span 1: .*{message}"):
        read("Anna Karenina", [5, 13, "PER"], item)
    with pytest.raises(ValueError, match=rf"^here: .*{message}"):
        read_span(item, "here")


def test_a_span_keeps_its_text():
    assert read_span({"start": 0, "end": 4, "label": "PER", "text": "Anna"}, "here") == Span(0, 4, "PER", "Anna")


@pytest.mark.parametrize("value", ["PER", {"start": 0, "end": 1, "label": "X"}, 3])
def test_a_value_that_is_not_a_list_is_refused(value):
    with pytest.raises(ValueError, match=r"rows\.jsonl:3.*expected a list of spans, each as .*, found "):
        read_spans("Anna", split_words("Anna"), value, PLACE)


def test_an_unknown_span_mismatch_is_refused():
    with pytest.raises(ValueError, match=r"unknown span_mismatch 'widne'\. Did you mean 'widen'\?"):
        read("Anna", mismatch="widne")


@pytest.mark.parametrize(
    ("text", "item", "message"),
    [
        ("Anna", [0, 5, "X"], r"span 0 \(0 to 5, 'X'\) ends after the text, which has 4 characters\.$"),
        ("Anna  in", [4, 6, "X"], r"span 0 \(4 to 6, 'X'\) '  ' contains only white space"),
        ("Anna", {"start": 0, "end": 3, "label": "X", "text": "nna"}, r"'Ann' says that its text is 'nna'\.$"),
        ("😀 Anna", [3, 7, "X"], r"which has 6 characters\. The offsets seem to count UTF-16 units, as JavaScript do"),
        ("😀 Anna", [5, 9, "X"], r"which has 6 characters\. The offsets seem to count bytes of UTF-8; expected char"),
        ("é Anna", [3, 7, "X"], r"which has 6 characters\. The offsets seem to count bytes of UTF-8; expected char"),
        ("😀 Anna", [3, 10, "X"], r"which has 6 characters\.$"),
        (
            "😀 Anna in",
            {"start": 3, "end": 7, "label": "X", "text": "Anna"},
            r"'nna ' says that its text is 'Anna'\. The offsets seem to count UTF-16 units",
        ),
        (
            "é Anna in",
            {"start": 3, "end": 7, "label": "X", "text": "Anna"},
            r"'nna ' says that its text is 'Anna'\. The offsets seem to count bytes of UTF-8",
        ),
    ],
)
def test_spans_that_do_not_fit_the_text_are_refused(text, item, message):
    with pytest.raises(ValueError, match=rf"rows\.jsonl:3: column 'ner': .*{message}"):
        read(text, item)


@pytest.mark.parametrize("own", ["New York", " New York ", "NewYork"])
def test_white_space_in_the_text_of_a_span_may_differ(own):
    assert read("New\nYork", {"start": 0, "end": 8, "label": "X", "text": own}) == (["B-X", "I-X"], 0)


LONE_SURROGATES = "\ud83d\ude00 ab\udc00"


@pytest.mark.parametrize("mismatch", ["widen", "drop"])
def test_a_lone_surrogate_is_a_character(mismatch):
    assert read(LONE_SURROGATES, [0, 1, "X"], [3, 6, "X"], mismatch=mismatch).mismatched == 0


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([0, 9, "X"], "which has 6 characters"),
        ({"start": 3, "end": 6, "label": "X", "text": "ab"}, "says that its text is 'ab'"),
        ({"start": 3, "end": 5, "label": "X", "text": "\ude00"}, "says that its text is"),
    ],
)
def test_a_lone_surrogate_does_not_crash(item, message):
    with pytest.raises(ValueError, match=message):
        read(LONE_SURROGATES, item)


CHARACTERS = st.one_of(
    st.sampled_from(
        [*"ab '-.,\n", E_ACUTE, "\u0301", "\u200d", "\u200c", "\ufe0f", "👨", "🏽", FAMILY, "🇩🇪", "🇫", "1\u20e3"]
    ),
    st.sampled_from(
        ["カ", "ﾞ", "ש", "\u05b8", "م", "\u064e", "\u200f", "東", "म", "ै", "ที่", "\u1112", "\u1161", "\ud800"]
    ),
    st.characters(),
)
TEXTS = st.lists(CHARACTERS, min_size=1, max_size=20).map("".join)


def is_cut(text, i):
    """Return whether a cut splits a grapheme cluster. White space does not belong to clusters."""
    if not 0 < i < len(text) or text[i - 1].isspace() or text[i].isspace():
        return False
    run = next(run for run in re.finditer(r"\S+", text) if run.start() < i < run.end())
    return i not in {run.start() + cluster.start() for cluster in regex.finditer(r"\X", run.group())}


def whole_edges(text, words):
    """Return the offsets at which a span may start or end without cutting anything."""
    return {edge for word in words for edge in (word.start, word.end) if not is_cut(text, edge)}


@st.composite
def texts_with_spans(draw):
    """Draw a text, its words and spans that do not overlap, most of them on the edges of words."""
    text = draw(TEXTS)
    words = split_words(text)
    assume(words)
    if draw(st.booleans()):
        places = sorted({edge for word in words for edge in (word.start, word.end)})
    else:
        places = range(len(text) + 1)
    cuts = sorted(draw(st.sets(st.sampled_from(places), max_size=8)))
    spans = [(a, b, draw(st.sampled_from("AB"))) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    return text, words, [span for span in spans if text[span[0] : span[1]].strip()]


def stripped(text, start, end):
    covered = text[start:end]
    return start + len(covered) - len(covered.lstrip()), end - len(covered) + len(covered.rstrip())


@given(texts_with_spans(), st.randoms())
def test_the_count_is_exact_and_fitting_spans_keep_their_characters(drawn, random):
    text, words, spans = drawn
    expected = [(*stripped(text, start, end), label) for start, end, label in spans]
    good = [span for span in expected if set(span[:2]) <= whole_edges(text, words)]
    random.shuffle(spans)
    for mismatch in ("widen", "drop"):
        tags, mismatched = read_spans(text, words, spans, PLACE, mismatch)
        assert len(tags) == len(words)
        assert all(tag is None or is_tag(tag) for tag in tags)
        assert mismatched == len(expected) - len(good)
        found = entities(text, tags, words)
        assert set(good) <= set(found)
        if mismatch == "drop" or len(good) == len(expected):
            assert found == good
    if len(good) < len(expected):
        with pytest.raises(ValueError, match="expected a span of whole words"):
            read_spans(text, words, spans, PLACE, "error")
    else:
        assert read_spans(text, words, spans, PLACE, "error") == (tags, 0)


@given(texts_with_spans())
def test_widened_spans_cover_the_given_ones_and_cut_nothing(drawn):
    text, words, spans = drawn
    tags, _ = read_spans(text, words, spans, PLACE)
    dropped, _ = read_spans(text, words, spans, PLACE, "drop")
    for word, tag, drop in zip(words, tags, dropped, strict=True):
        touched = any(start < word.end and word.start < end for start, end, _ in spans)
        assert tag != "O" or not touched
        assert drop in (None, tag)
    for start, end, _ in entities(text, tags, words):
        assert not is_cut(text, start)
        assert not is_cut(text, end)


@given(texts_with_spans())
def test_a_single_span_is_widened_no_further_than_needed(drawn):
    text, words, spans = drawn
    edges = whole_edges(text, words)
    for start, end, label in spans:
        tags, _ = read_spans(text, words, [(start, end, label)], PLACE)
        start, end = stripped(text, start, end)
        least = (max(edge for edge in edges if edge <= start), min(edge for edge in edges if edge >= end), label)
        assert entities(text, tags, words) == [least]


@given(st.lists(st.text("ab 😀\u0301", min_size=1, max_size=4), min_size=1, max_size=6), st.data())
def test_given_tokens_follow_the_same_rules(tokens, data):
    text = data.draw(st.sampled_from(["", " ", "-"])).join(tokens)
    words: list[Word] = locate_words(tokens, text)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    assume(text[start:end].strip())
    tags, mismatched = read_spans(text, words, [[start, end, "X"]], PLACE)
    touched = [i for i, word in enumerate(words) if text[max(start, word.start) : min(end, word.end)].strip()]
    assert mismatched in (0, 1)
    assert all(tags[i] is not None and tags[i] != "O" for i in touched)
    assert len(tag_spans(tags)) == bool(set(tags) - {"O"})
