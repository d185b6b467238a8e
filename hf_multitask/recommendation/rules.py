"""The rules: how much of the encoder to train, and which encoder; each with its reason and its source.

The rules of a table are asked from the top; the first that applies decides. Those below it that apply and advise
something else are named with it, so that nothing is decided silently.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..runtime.byte_sizes import format_bytes
from .cost_model import Machine, training_bytes
from .data_facts import DataFacts, TaskFacts
from .domain_distance import Closeness
from .encoder_catalogue import CASED, KNOWN, MULTILINGUAL, OF_DOMAIN, SMALL, STRONGEST, UNCASED, EncoderSize
from .language import DomainEvidence, LanguageEvidence

FROZEN, UPPER, HEADS_FIRST, ALL = "encoder frozen", "upper layers", "the heads, then all layers", "all layers"
# From the cheapest to the most expensive.
DEPTHS = (FROZEN, UPPER, HEADS_FIRST, ALL)

USUAL = "usual advice, not measured by us"
MEASURED = "measured on SNIPS against the usual advice, see docs/FREEZING.md"
# Rows from which a text far from general ones is worth a step deeper than their number alone.
MIN_FAR_ROWS = 50
# A text with fewer capital letters has lost its case.
MIN_CAPITALS = 0.01
# What weights may take of the free memory, so that a batch has room too.
SHARE_FOR_WEIGHTS = 0.5


@dataclass(frozen=True)
class Situation:
    """All that the rules look at.

    Args:
        facts: The data.
        main_task: Name of the task that matters most, None where all matter.
        closeness: How close the texts are to general ones.
        domain: The domain that they speak of, None where it is none.
        language: What tells their language.
        capitals: Share of their letters that are capital ones.
        machine: The compute at hand.
        encoder: The config's encoder.
    """

    facts: DataFacts
    main_task: str | None
    closeness: Closeness
    domain: DomainEvidence | None
    language: LanguageEvidence
    capitals: float
    machine: Machine
    encoder: EncoderSize

    @property
    def decider(self) -> TaskFacts:
        """The task whose rows decide how much trains: the main task, or the one with the most labelled rows."""
        if self.main_task is None:
            return max(self.facts.tasks, key=lambda task: task.labelled_rows)
        return next(task for task in self.facts.tasks if task.name == self.main_task)


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        name: What it goes by.
        condition: Returns the evidence in words where the rule applies, else None.
        advice: What it advises, or a function of the situation that says it.
        reason: Why.
        source: Where that is from.
        precedence: Why it goes before the rules below it.
    """

    name: str
    condition: Callable[[Situation], str | None]
    advice: str | Callable[[Situation], str]
    reason: str
    source: str
    precedence: str


@dataclass(frozen=True)
class Finding:
    """A rule that applies.

    Args:
        rule: Its name.
        evidence: What in the data or on the machine makes it apply.
        advice: What it advises.
        reason: Why.
        source: Where that is from.
        precedence: Why it goes before others.
    """

    rule: str
    evidence: str
    advice: str
    reason: str
    source: str
    precedence: str = ""


@dataclass(frozen=True)
class SizeRule:
    """How much of the encoder is worth training with how many rows.

    Args:
        name: What it goes by.
        token_tasks: Whether it is for tasks that label words, or for those that label texts.
        most_rows: The most labelled rows that it is for.
        advice: How much of the encoder to train.
        reason: Why.
        source: Where that is from.
    """

    name: str
    token_tasks: bool
    most_rows: float
    advice: str
    reason: str
    source: str


LEE = "Lee, Tang and Lin 2019 (What Would Elsa Do?)"
PETERS = "Peters, Ruder and Smith 2019 (To Tune or Not to Tune?)"
GURURANGAN = "Gururangan et al. 2020 (Don't Stop Pretraining)"

# Up to how many rows how much trains, the first that fits; the two kinds of tasks have thresholds of their own.
_FEW = "so few labels fit a head, and let an encoder learn them by heart"
SIZE_RULES = (
    SizeRule("few rows", False, 49, FROZEN, _FEW, USUAL),
    SizeRule("some rows", False, 499, HEADS_FIRST, "it scored best with 50 and 100 rows", MEASURED),
    SizeRule("many rows", False, float("inf"), ALL, "it scored best with 500 rows and more", MEASURED),
    SizeRule("few rows", True, 49, FROZEN, _FEW, USUAL),
    SizeRule("many rows", True, float("inf"), ALL, "it scored best with 50 rows and more", MEASURED),
)


def size_finding(task: TaskFacts, precedence: str = "") -> Finding:
    """Return what the number of a task's labelled rows advises.

    Args:
        task: The task.
        precedence: Why its rows decide.
    """
    rule = next(
        rule for rule in SIZE_RULES if rule.token_tasks == task.is_token_task and task.labelled_rows <= rule.most_rows
    )
    rows = "row" if task.labelled_rows == 1 else "rows"
    evidence = f"{task.name} has {task.labelled_rows:,} labelled {rows}"
    return Finding(f"{rule.name} of {task.name}", evidence, rule.advice, rule.reason, rule.source, precedence)


def _size_advice(situation: Situation) -> str:
    return size_finding(situation.decider).advice


def _deeper(situation: Situation) -> str:
    return DEPTHS[min(DEPTHS.index(_size_advice(situation)) + 1, len(DEPTHS) - 1)]


def _too_large(situation: Situation) -> str | None:
    needed, free = training_bytes(situation.encoder), situation.machine.memory_bytes
    if needed <= SHARE_FOR_WEIGHTS * free or _size_advice(situation) == FROZEN:
        return None
    return f"all weights, gradients and moments take {format_bytes(needed, 'GiB')} of {format_bytes(free, 'GiB')}"


def _far(situation: Situation) -> str | None:
    enough = situation.decider.labelled_rows >= MIN_FAR_ROWS
    return situation.closeness.far if enough and _size_advice(situation) != ALL else None


DEPTH_RULES = (
    Rule(
        "little memory",
        _too_large,
        UPPER,
        "the upper layers bring most of what all bring, and need gradients and moments for themselves alone",
        f"worked out; {LEE}",
        "what does not fit cannot train",
    ),
    Rule(
        "far from general text",
        _far,
        _deeper,
        "frozen states say less of texts unlike those that the encoder has learned from",
        f"{PETERS}; {GURURANGAN}",
        "more rows would not bring closer what the frozen layers make of such texts",
    ),
)


def _own(situation: Situation) -> str | None:
    name = situation.encoder.name
    return None if name in KNOWN else f"{name} is none of those that rules know"


def _other_language(situation: Situation) -> str | None:
    language = situation.language
    if language.is_english:
        return None
    if language.other_letters > language.function_words:
        return f"{language.other_letters:.0%} of the letters are not Latin"
    return f"{language.function_words:.1%} of the words are function words of English"


def _domain(situation: Situation) -> str | None:
    domain = situation.domain
    if domain is None:
        return None
    if domain.share is None:
        return f"the domain is given as {domain.name}"
    return f"{domain.share:.1%} of the words are {domain.name}: {', '.join(domain.words)}"


def _domain_encoder(situation: Situation) -> str:
    return OF_DOMAIN[str(situation.domain and situation.domain.name)]


def _no_accelerator(situation: Situation) -> str | None:
    return None if situation.machine.has_accelerator else str(situation.machine)


def _words(situation: Situation) -> str | None:
    task = situation.decider
    return f"{task.name} labels words" if situation.machine.has_accelerator and task.is_token_task else None


def _words_encoder(situation: Situation) -> str:
    return CASED if situation.capitals >= MIN_CAPITALS else UNCASED


def _whole_texts(situation: Situation) -> str | None:
    task = situation.decider
    return f"{task.name} labels whole texts" if situation.machine.has_accelerator and not task.is_token_task else None


ENCODER_RULES = (
    Rule(
        "your own encoder",
        _own,
        lambda situation: situation.encoder.name,
        "it was chosen for a reason that no rule knows",
        "",
        "what you have chosen is not replaced by a guess",
    ),
    Rule(
        "another language",
        _other_language,
        MULTILINGUAL,
        "an encoder of English alone falls such words into pieces that mean nothing to it",
        "Reimers and Gurevych 2020 (Making Monolingual Sentence Embeddings Multilingual)",
        "an encoder that cannot read the language has nothing to offer",
    ),
    Rule(
        "domain",
        _domain,
        _domain_encoder,
        "encoders that have read much of a domain are better at its tasks",
        GURURANGAN,
        "a few labelled rows do not make up for the text of a domain that an encoder has read",
    ),
    Rule(
        "no accelerator",
        _no_accelerator,
        SMALL,
        "six narrow layers cost an eighth of what twelve of the usual width cost",
        "worked out",
        "a run that takes a day is not repeated, and the first is seldom the best",
    ),
    Rule(
        "words are labelled",
        _words,
        _words_encoder,
        "encoders trained to fill in words score higher on slots than small sentence encoders",
        "Chen et al. 2019 (BERT for Joint Intent Classification and Slot Filling), beside our scores in the README",
        "the task that decides labels words",
    ),
    Rule(
        "whole texts are labelled",
        _whole_texts,
        STRONGEST,
        "the strongest of the general sentence encoders",
        "the table of models of sentence-transformers (sbert.net)",
        "",
    ),
)


def apply_rules(rules: Sequence[Rule], situation: Situation) -> list[Finding]:
    """Return the rules of a table that apply, in their order.

    Args:
        rules: The table.
        situation: What the rules look at.
    """
    findings = []
    for rule in rules:
        evidence = rule.condition(situation)
        if evidence is not None:
            advice = rule.advice if isinstance(rule.advice, str) else rule.advice(situation)
            findings.append(Finding(rule.name, evidence, advice, rule.reason, rule.source, rule.precedence))
    return findings


def find_encoder(situation: Situation) -> list[Finding]:
    """Return what speaks for which encoder; the first finding decides."""
    return apply_rules(ENCODER_RULES, situation)


def find_depth(situation: Situation) -> list[Finding]:
    """Return what speaks for how much of the encoder to train; the first finding decides."""
    decider = situation.decider
    why = (
        "it is named as the main task"
        if situation.main_task is not None
        else "the encoder learns most from the task with the most rows; --main-task names another"
    )
    others = [task for task in situation.facts.tasks if task is not decider]
    return [
        *apply_rules(DEPTH_RULES, situation),
        size_finding(decider, why),
        *(size_finding(task) for task in others),
    ]


def conflicts(findings: Sequence[Finding]) -> list[str]:
    """Say where rules pull apart: which advise something else than the first, and why that one goes before them."""
    first = findings[0]
    return [
        f"{other.rule!r} ({other.evidence}) advises {other.advice}; {first.rule!r} ({first.evidence}) advises "
        f"{first.advice} and goes before it: {first.precedence}."
        for other in findings[1:]
        if other.advice != first.advice
    ]
