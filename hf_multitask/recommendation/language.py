"""Language and domain of texts, by bundled word lists; and the bundled sample of general text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..models.text_words import split_words

FOLDER = Path(__file__).parent
BIOMEDICAL, LEGAL, FINANCE, GENERAL = "biomedical", "legal", "finance", "general"
DOMAINS = (BIOMEDICAL, LEGAL, FINANCE)

# Texts belong to a domain if at least this share of the words, and this many different ones, are in its list. General
# text has less than 2 % of them, and customers' questions to a bank have 4 %.
MIN_DOMAIN_SHARE = 0.05
MIN_DOMAIN_WORDS = 5
# Minimum number of words to decide the language by.
MIN_WORDS = 50
# A quarter to a third of the words of English text are function words. Commands and titles have fewer, other languages
# next to none.
MIN_FUNCTION_WORDS = 0.03
MAX_OTHER_LETTERS = 0.2
LAST_LATIN_LETTER = "\u024f"


@dataclass(frozen=True)
class DomainEvidence:
    """Domain of texts.

    Args:
        name: Name of the domain.
        share: Share of the words that are in its list; None if the caller named the domain.
        words: Most frequent words of the list.
    """

    name: str
    share: float | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class LanguageEvidence:
    """Evidence for the language of texts.

    Args:
        function_words: Share of the words that are English function words.
        other_letters: Share of the letters that are not Latin.
        enough: Whether there are enough words to decide.
    """

    function_words: float
    other_letters: float
    enough: bool

    @property
    def is_english(self) -> bool:
        """Whether the texts are English. Texts that are too short to decide count as English."""
        if self.other_letters > MAX_OTHER_LETTERS:
            return False
        return not self.enough or self.function_words >= MIN_FUNCTION_WORDS


@cache
def general_sample() -> tuple[str, ...]:
    """Return everyday English sentences, written by ``scripts/make_general_sample.py``."""
    return tuple((FOLDER / "general_sample.txt").read_text(encoding="utf-8").splitlines())


def find_domain(texts: Sequence[str]) -> DomainEvidence | None:
    """Find the domain of texts by the word lists.

    Args:
        texts: The texts.

    Returns:
        The domain with the largest share of the words; None if no domain has enough of them.
    """
    words = Counter(_words(texts))
    domains: list[DomainEvidence] = []
    for domain in DOMAINS:
        listed = Counter({word: count for word, count in words.items() if word in word_list(domain)})
        share = listed.total() / max(words.total(), 1)
        if share >= MIN_DOMAIN_SHARE and len(listed) >= MIN_DOMAIN_WORDS:
            domains.append(DomainEvidence(domain, share, tuple(word for word, _ in listed.most_common(5))))
    return max(domains, key=lambda evidence: evidence.share or 0.0, default=None)


def find_language(texts: Sequence[str]) -> LanguageEvidence:
    """Return the evidence for whether texts are English."""
    words = _words(texts)
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    other = sum(letter > LAST_LATIN_LETTER for letter in letters)
    return LanguageEvidence(
        function_words=sum(word in word_list("function_words") for word in words) / max(len(words), 1),
        other_letters=other / max(len(letters), 1),
        enough=len(words) >= MIN_WORDS,
    )


def capital_share(texts: Sequence[str]) -> float:
    """Return the share of capital letters among the letters of texts."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    return sum(map(str.isupper, letters)) / max(len(letters), 1)


@cache
def word_list(name: str) -> frozenset[str]:
    """Return a list of ``words/``: a domain's, or ``"function_words"``."""
    lines = (FOLDER / "words" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def _words(texts: Sequence[str]) -> list[str]:
    """Return the words that begin with a letter, in lower case."""
    return [word.text.lower() for text in texts for word in split_words(text) if word.text[0].isalpha()]
