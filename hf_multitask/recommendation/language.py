"""Texts that the package brings to compare others with: a general sample, words of domains, function words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..models.text_words import split_words

FOLDER = Path(__file__).parent
BIOMEDICAL, LEGAL, FINANCE, GENERAL = "biomedical", "legal", "finance", "general"
DOMAINS = (BIOMEDICAL, LEGAL, FINANCE)

# A domain is one where so many of the words are its own, of so many different ones. General text has less than 2 % of
# them, and customers' questions to a bank 4 %.
MIN_DOMAIN_SHARE = 0.05
MIN_DOMAIN_WORDS = 5
# Fewer words than these tell nothing of the language.
MIN_WORDS = 50
# English text has a quarter to a third of them; a text of commands or titles less, other languages next to none.
MIN_FUNCTION_WORDS = 0.03
MAX_OTHER_LETTERS = 0.2
LAST_LATIN_LETTER = "\u024f"


@dataclass(frozen=True)
class DomainEvidence:
    """The domain that texts speak of.

    Args:
        name: Its name.
        share: Share of the words that are its own; None where the caller has named it.
        words: The most frequent of those words.
    """

    name: str
    share: float | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class LanguageEvidence:
    """What tells the language.

    Args:
        function_words: Share of the words that are function words of English.
        other_letters: Share of the letters that are not Latin ones.
        enough: Whether there were enough words to tell.
    """

    function_words: float
    other_letters: float
    enough: bool

    @property
    def is_english(self) -> bool:
        """Whether the texts are English; where they are too short to tell, they count as it."""
        if self.other_letters > MAX_OTHER_LETTERS:
            return False
        return not self.enough or self.function_words >= MIN_FUNCTION_WORDS


@cache
def general_sample() -> tuple[str, ...]:
    """Return everyday English sentences, which ``scripts/make_general_sample.py`` has written."""
    return tuple((FOLDER / "general_sample.txt").read_text(encoding="utf-8").splitlines())


def find_domain(texts: Sequence[str]) -> DomainEvidence | None:
    """Find the domain that texts speak of by the words that are its own.

    Args:
        texts: The texts.

    Returns:
        The domain with the most words; None where none has enough of them.
    """
    words = Counter(_words(texts))
    found: list[DomainEvidence] = []
    for domain in DOMAINS:
        own = Counter({word: count for word, count in words.items() if word in word_list(domain)})
        share = own.total() / max(words.total(), 1)
        if share >= MIN_DOMAIN_SHARE and len(own) >= MIN_DOMAIN_WORDS:
            found.append(DomainEvidence(domain, share, tuple(word for word, _ in own.most_common(5))))
    return max(found, key=lambda evidence: evidence.share or 0.0, default=None)


def find_language(texts: Sequence[str]) -> LanguageEvidence:
    """Measure what tells whether texts are English.

    Args:
        texts: The texts.
    """
    words = _words(texts)
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    other = sum(letter > LAST_LATIN_LETTER for letter in letters)
    return LanguageEvidence(
        function_words=sum(word in word_list("function_words") for word in words) / max(len(words), 1),
        other_letters=other / max(len(letters), 1),
        enough=len(words) >= MIN_WORDS,
    )


def capital_share(texts: Sequence[str]) -> float:
    """Return the share of the letters of texts that are capital ones."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    return sum(map(str.isupper, letters)) / max(len(letters), 1)


@cache
def word_list(name: str) -> frozenset[str]:
    """Return one of the lists in ``words/``: a domain's words, or ``"function_words"``."""
    lines = (FOLDER / "words" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def _words(texts: Sequence[str]) -> list[str]:
    """Return what begins with a letter, in lower case."""
    return [word.text.lower() for text in texts for word in split_words(text) if word.text[0].isalpha()]
