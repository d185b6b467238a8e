"""Domain and language of texts, found with bundled word lists and a bundled sample."""

import subprocess
import sys
from pathlib import Path

import pytest

from hf_multitask.recommendation.language import (
    DOMAINS,
    FOLDER,
    MIN_DOMAIN_SHARE,
    capital_share,
    find_domain,
    find_language,
    general_sample,
    word_list,
)
from tests.recommendation.example_texts import OTHER_LANGUAGES, TEXTS

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_the_script_writes_the_shipped_sample(tmp_path):
    script = SCRIPTS / "make_general_sample.py"
    subprocess.run([sys.executable, script, "--output", tmp_path / "sample.txt"], check=True, capture_output=True)
    assert (tmp_path / "sample.txt").read_bytes() == (FOLDER / "general_sample.txt").read_bytes()


def test_the_sample_is_plain_english_of_no_domain():
    sample = general_sample()
    assert 250 <= len(sample) == len(set(sample))
    assert not any(character in sentence for sentence in sample for character in "[]{}|#")
    assert find_language(sample).is_english
    assert find_domain(sample) is None
    words = [word for sentence in sample for word in sentence.lower().strip(".?!").split()]
    for domain in DOMAINS:
        assert sum(word in word_list(domain) for word in words) / len(words) < MIN_DOMAIN_SHARE / 3, domain


def test_no_word_belongs_to_two_domains():
    for i, one in enumerate(DOMAINS):
        for other in DOMAINS[i + 1 :]:
            assert word_list(one).isdisjoint(word_list(other)), (one, other, word_list(one) & word_list(other))


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_is_found_by_its_words(domain):
    evidence = find_domain(TEXTS[domain])
    assert evidence.name == domain
    assert evidence.share >= MIN_DOMAIN_SHARE
    assert set(evidence.words) <= word_list(domain)
    assert len(evidence.words) == 5


def test_a_few_words_of_a_domain_are_not_the_domain():
    """A single frequent word is weak evidence: restaurant reviews may be full of `stock`."""
    assert find_domain(["The stock tasted of stock and more stock."] * 20) is None
    assert find_domain([*TEXTS["legal"], *general_sample()]) is None


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_other_languages_are_not_english(language):
    assert not find_language([OTHER_LANGUAGES[language]] * 5).is_english


def test_english_and_texts_too_short_to_decide_are_english():
    assert find_language(["play some music by the beatles"] * 12).is_english
    assert find_language(["café Zürich"]).is_english
    assert not find_language(["Москва"]).is_english


def test_share_of_capital_letters():
    assert capital_share(["Ab", "12"]) == 0.5
    assert capital_share(["12"]) == 0.0
