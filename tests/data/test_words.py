"""Words of a text, each with its place."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask.data.words import join_words, locate_words, split_words


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


@given(st.lists(st.text(min_size=1)))
def test_joined_words_keep_their_places(tokens):
    text, words = join_words(tokens)
    assert text == " ".join(tokens)
    assert [text[word.start : word.end] for word in words] == tokens


def test_given_words_are_found_in_order():
    words = locate_words(["to", "be", "or", "to"], "to be, or to go")
    assert [(word.start, word.end) for word in words] == [(0, 2), (3, 5), (7, 9), (10, 12)]


def test_a_word_that_is_not_in_the_text_is_refused():
    with pytest.raises(ValueError, match="word 1 of `tokens`, 'not', does not occur in `text` behind character 5"):
        locate_words(["to be", "not"], "to be or")
