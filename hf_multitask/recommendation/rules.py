"""The rules: how much of the encoder to train, and which encoder; each with its reason and its source.

A rule is a function that returns a `Finding` if it applies to a situation. The rules of a table are asked from the
top; the first that applies decides. Those below it that apply and advise something else are named with it, so that
nothing is decided silently.
"""

from collections.abc import Callable, Iterator, Sequence
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
CHEN = "Chen et al. 2019 (BERT for Joint Intent Classification and Slot Filling)"
LEE = "Lee, Tang and Lin 2019 (What Would Elsa Do?)"
PETERS = "Peters, Ruder and Smith 2019 (To Tune or Not to Tune?)"
GURURANGAN = "Gururangan et al. 2020 (Don't Stop Pretraining)"

# Up to this many labeled rows the encoder stays frozen.
MAX_FEW_ROWS = 49
# Up to this many, the heads of tasks that label texts train first.
MAX_SOME_ROWS = 499
# Rows from which a text far from general ones is worth a step deeper than their number alone.
MIN_FAR_ROWS = 50
# A text with fewer capital letters has lost its case.
MIN_CAPITAL_SHARE = 0.01
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
        capital_share: Share of their letters that are capital ones.
        machine: The compute at hand.
        encoder: The config's encoder.
    """

    facts: DataFacts
    main_task: str | None
    closeness: Closeness
    domain: DomainEvidence | None
    language: LanguageEvidence
    capital_share: float
    machine: Machine
    encoder: EncoderSize

    @property
    def deciding_task(self) -> TaskFacts:
        """The task whose rows decide how much trains: the main task, or the one with the most labelled rows."""
        if self.main_task is None:
            return max(self.facts.tasks, key=lambda task: task.labelled_rows)
        return next(task for task in self.facts.tasks if task.name == self.main_task)


@dataclass(frozen=True)
class Finding:
    """A rule that applies.

    Args:
        rule: Its name.
        evidence: What in the data or on the machine makes it apply.
        advice: What it advises.
        reason: Why.
        source: Where that is from.
        precedence: Why it goes before the rules below it.
    """

    rule: str
    evidence: str
    advice: str
    reason: str
    source: str = ""
    precedence: str = ""


Rule = Callable[[Situation], Finding | None]


def number_of_rows(task: TaskFacts, precedence: str = "") -> Finding:
    """Return what the number of a task's labelled rows advises.

    Args:
        task: The task.
        precedence: Why its rows decide.
    """
    if task.labelled_rows <= MAX_FEW_ROWS:
        amount, advice, source = "few", FROZEN, USUAL
        reason = "so few labels fit a head, and let an encoder learn them by heart"
    elif task.labelled_rows <= MAX_SOME_ROWS and not task.is_token_task:
        amount, advice, source = "some", HEADS_FIRST, MEASURED
        reason = "it scored best with 50 and 100 rows"
    else:
        amount, advice, source = "many", ALL, MEASURED
        reason = f"it scored best with {50 if task.is_token_task else 500} rows and more"
    rows = "row" if task.labelled_rows == 1 else "rows"
    return Finding(
        rule=f"{amount} rows of {task.name}",
        evidence=f"{task.name} has {task.labelled_rows:,} labelled {rows}",
        advice=advice,
        reason=reason,
        source=source,
        precedence=precedence,
    )


def little_memory(situation: Situation) -> Finding | None:
    """Advise the upper layers if the optimizer's state of all weights does not fit."""
    needed_bytes, free_bytes = training_bytes(situation.encoder), situation.machine.memory_bytes
    if needed_bytes <= SHARE_FOR_WEIGHTS * free_bytes or number_of_rows(situation.deciding_task).advice == FROZEN:
        return None
    needed, free = format_bytes(needed_bytes, "GiB"), format_bytes(free_bytes, "GiB")
    return Finding(
        rule="little memory",
        evidence=f"all weights, gradients and moments take {needed} of {free}",
        advice=UPPER,
        reason="the upper layers bring most of what all bring, and need gradients and moments for themselves alone",
        source=f"worked out; {LEE}",
        precedence="what does not fit cannot train",
    )


def far_from_general_text(situation: Situation) -> Finding | None:
    """Advise a step deeper than the number of rows does if the texts are unlike general ones."""
    task = situation.deciding_task
    depth = DEPTHS.index(number_of_rows(task).advice)
    if situation.closeness.far is None or task.labelled_rows < MIN_FAR_ROWS or DEPTHS[depth] == ALL:
        return None
    return Finding(
        rule="far from general text",
        evidence=situation.closeness.far,
        advice=DEPTHS[depth + 1],
        reason="frozen states say less of texts unlike those that the encoder has learned from",
        source=f"{PETERS}; {GURURANGAN}",
        precedence="more rows would not bring closer what the frozen layers make of such texts",
    )


def own_encoder(situation: Situation) -> Finding | None:
    """Advise the config's encoder if it is not one of those that are recommended."""
    name = situation.encoder.name
    if name in KNOWN:
        return None
    return Finding(
        rule="your own encoder",
        evidence=f"{name} is none of those that rules know",
        advice=name,
        reason="it was chosen for a reason that no rule knows",
        precedence="what you have chosen is not replaced by a guess",
    )


def another_language(situation: Situation) -> Finding | None:
    """Advise the multilingual encoder if the texts are not English."""
    language = situation.language
    if language.is_english:
        return None
    if language.other_letters > language.function_words:
        evidence = f"{language.other_letters:.0%} of the letters are not Latin"
    else:
        evidence = f"{language.function_words:.1%} of the words are function words of English"
    return Finding(
        rule="another language",
        evidence=evidence,
        advice=MULTILINGUAL,
        reason="an encoder of English alone falls such words into pieces that mean nothing to it",
        source="Reimers and Gurevych 2020 (Making Monolingual Sentence Embeddings Multilingual)",
        precedence="an encoder that cannot read the language has nothing to offer",
    )


def domain(situation: Situation) -> Finding | None:
    """Advise the encoder of the domain that the texts speak of."""
    found = situation.domain
    if found is None:
        return None
    if found.share is None:
        evidence = f"the domain is given as {found.name}"
    else:
        evidence = f"{found.share:.1%} of the words are {found.name}: {', '.join(found.words)}"
    return Finding(
        rule="domain",
        evidence=evidence,
        advice=OF_DOMAIN[found.name],
        reason="encoders that have read much of a domain are better at its tasks",
        source=GURURANGAN,
        precedence="a few labelled rows do not make up for the text of a domain that an encoder has read",
    )


def no_accelerator(situation: Situation) -> Finding | None:
    """Advise the small encoder if there is only a processor."""
    if situation.machine.has_accelerator:
        return None
    return Finding(
        rule="no accelerator",
        evidence=str(situation.machine),
        advice=SMALL,
        reason="six narrow layers cost an eighth of what twelve of the usual width cost",
        source="worked out",
        precedence="a run that takes a day is not repeated, and the first is seldom the best",
    )


def labeled_words(situation: Situation) -> Finding | None:
    """Advise a masked language model if the deciding task labels words and there is an accelerator."""
    task = situation.deciding_task
    if not (situation.machine.has_accelerator and task.is_token_task):
        return None
    return Finding(
        rule="words are labelled",
        evidence=f"{task.name} labels words",
        advice=CASED if situation.capital_share >= MIN_CAPITAL_SHARE else UNCASED,
        reason="encoders trained to fill in words score higher on slots than small sentence encoders",
        source=f"{CHEN}, beside our scores in the README",
        precedence="the task that decides labels words",
    )


def labeled_texts(situation: Situation) -> Finding | None:
    """Advise the strongest sentence encoder if the deciding task labels texts and there is an accelerator."""
    task = situation.deciding_task
    if task.is_token_task or not situation.machine.has_accelerator:
        return None
    return Finding(
        rule="whole texts are labelled",
        evidence=f"{task.name} labels whole texts",
        advice=STRONGEST,
        reason="the strongest of the general sentence encoders",
        source="the table of models of sentence-transformers (sbert.net)",
    )


ENCODER_RULES: tuple[Rule, ...] = (
    own_encoder,
    another_language,
    domain,
    no_accelerator,
    labeled_words,
    labeled_texts,
)
DEPTH_RULES: tuple[Rule, ...] = (little_memory, far_from_general_text)


def find_encoder(situation: Situation) -> list[Finding]:
    """Return what speaks for which encoder; the first finding decides."""
    return list(_apply(ENCODER_RULES, situation))


def find_depth(situation: Situation) -> list[Finding]:
    """Return what speaks for how much of the encoder to train; the first finding decides."""
    deciding = situation.deciding_task
    why = (
        "it is named as the main task"
        if situation.main_task is not None
        else "the encoder learns most from the task with the most rows; --main-task names another"
    )
    others = [task for task in situation.facts.tasks if task is not deciding]
    return [*_apply(DEPTH_RULES, situation), number_of_rows(deciding, why), *map(number_of_rows, others)]


def find_conflicts(findings: Sequence[Finding]) -> list[str]:
    """Say where rules pull apart: which advise something else than the first, and why that one goes before them."""
    first = findings[0]
    return [
        f"{other.rule!r} ({other.evidence}) advises {other.advice}; {first.rule!r} ({first.evidence}) advises "
        f"{first.advice} and goes before it: {first.precedence}."
        for other in findings[1:]
        if other.advice != first.advice
    ]


def _apply(rules: Sequence[Rule], situation: Situation) -> Iterator[Finding]:
    return (finding for rule in rules if (finding := rule(situation)) is not None)
