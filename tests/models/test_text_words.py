"""Words of a text with their offsets."""

import re
import unicodedata
from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask.models.text_words import join_words, locate_words, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Book a table, please!", ["Book", "a", "table", ",", "please", "!"]),
        ("Apple's watch isn't here.", ["Apple", "'s", "watch", "isn't", "here", "."]),
        ("Apple’s (new) e-mail…", ["Apple", "’s", "(", "new", ")", "e-mail", "…"]),
        ("at 9:30, 3.5 kg", ["at", "9:30", ",", "3.5", "kg"]),
        ("U.S. troops", ["U.S", ".", "troops"]),
        ("東京 は", ["東", "京", "は"]),
        ("São Paulo — “Zoë”", ["São", "Paulo", "—", "“", "Zoë", "”"]),
        ("a_b @user #tag", ["a_b", "@", "user", "#", "tag"]),
        ("a_b a_\u0301b _\u0301b", ["a_b", "a_\u0301b", "_\u0301b"]),
        ("cafe\u0301, Zoe\u0301's", ["cafe\u0301", ",", "Zoe\u0301", "'s"]),
        ("मैं हिन्दी।", ["मैं", "हिन्दी", "।"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("👨\u200d👩\u200d👧\u200d👦👍🏽", ["👨\u200d👩\u200d👧\u200d👦", "👍🏽"]),
        ("🇩🇪🇫🇷 ❤\ufe0f!", ["🇩🇪", "🇫🇷", "❤\ufe0f", "!"]),
        ("שָׁלוֹם \u200fמֻחَمَّد", ["שָׁלוֹם", "\u200f", "מֻחَمَّد"]),
        ("\u06dd١٢٣", ["\u06dd١٢٣"]),
        ("\u0600 \u0301a", ["\u0600", "\u0301", "a"]),
        ("", []),
        (" \t\n", []),
    ],
)
def test_punctuation_at_a_words_edge_is_a_word(text, words):
    assert [word.text for word in split_words(text)] == words


@given(st.text())
def test_every_word_is_a_slice_of_the_text_and_nothing_but_white_space_is_left_out(text):
    words = split_words(text)
    assert all(text[word.start : word.end] == word.text for word in words)
    assert all(before.end <= word.start for before, word in pairwise(words))
    assert "".join(word.text for word in words) == "".join(text.split())


COMBINED = [
    "\u0301",
    "\u200d",
    "\u200c",
    "\ufe0f",
    "\u20e3",
    "👨",
    "👩",
    "🏽",
    "🇩",
    "🇪",
    "म",
    "ै",
    "ं",
    "ที่",
    "\u06dd",
    "\u1161",
]


@given(st.lists(st.one_of(st.sampled_from([*COMBINED, *"ae1', \n"]), st.characters()), max_size=30).map("".join))
def test_no_word_begins_or_ends_inside_of_a_grapheme_cluster(text):
    # White space separates words whatever comes before or after it.
    edges = {edge for word in split_words(text) for edge in (word.start, word.end)}
    for run in re.finditer(r"\S+", text):
        ends = {run.start() + cluster.end() for cluster in regex.finditer(r"\X", run.group())}
        assert edges & set(range(run.start() + 1, run.end())) <= ends


@pytest.mark.parametrize("text", ["Zoé's café, über-naïve “ñandú”", "Ἀθῆναι (Ελλάδα)", "Hà Nội… 3½ kg"])
def test_composed_and_decomposed_letters_give_the_same_words(text):
    words = [word.text for word in split_words(unicodedata.normalize("NFD", text))]
    assert [unicodedata.normalize("NFC", word) for word in words] == [word.text for word in split_words(text)]


@given(st.lists(st.text(min_size=1)))
def test_joined_words_keep_their_places(tokens):
    text, words = join_words(tokens)
    assert text == " ".join(tokens)
    assert [text[word.start : word.end] for word in words] == tokens


def test_given_words_are_found_in_order():
    words = locate_words(["to", "be", "or", "to"], "to be, or to go")
    assert [(word.start, word.end) for word in words] == [(0, 2), (3, 5), (7, 9), (10, 12)]


def test_a_word_that_is_not_in_the_text_is_refused():
    with pytest.raises(ValueError, match="word 1 of `tokens`, 'not', does not occur in `text` after character 5"):
        locate_words(["to be", "not"], "to be or")
