"""Rules that advise how much of the encoder to train, and which encoder, each with its reason and its source.

A rule is a function that returns a `Finding` if it applies to a situation. The first rule of a table that applies
decides. Later rules that apply and disagree are reported as conflicts, so that nothing is decided silently.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..models.tasks import REGRESSION
from ..probing import LayerProbe, TaskProbe
from ..runtime.byte_sizes import format_bytes
from .cost_model import Machine, training_bytes
from .data_facts import DataFacts, TaskFacts
from .domain_distance import Closeness
from .encoder_catalogue import CASED, KNOWN, MULTILINGUAL, OF_DOMAIN, SMALL, STRONGEST, UNCASED, EncoderSize
from .language import DomainEvidence, LanguageEvidence

FROZEN, UPPER, HEADS_FIRST, ALL = "encoder frozen", "upper layers", "heads, then all layers", "all layers"
# From the cheapest to the most expensive.
DEPTHS = (FROZEN, UPPER, HEADS_FIRST, ALL)

USUAL = "common advice, not measured by us"
MEASURED = "measured against the common advice, see docs/FREEZING.md"
CHEN = "Chen et al. 2019 (BERT for Joint Intent Classification and Slot Filling)"
LEE = "Lee, Tang and Lin 2019 (What Would Elsa Do?)"
PETERS = "Peters, Ruder and Smith 2019 (To Tune or Not to Tune?)"
GURURANGAN = "Gururangan et al. 2020 (Don't Stop Pretraining)"

# Maximum number of labeled rows with which the encoder stays frozen.
MAX_FEW_ROWS = 19
# Maximum number of rows, and of rows per label, with which the heads train first, if the task labels texts.
MAX_SOME_ROWS, MAX_SOME_ROWS_PER_LABEL = 499, 8
# Minimum number with which texts far from general text are worth training one step deeper.
MIN_FAR_ROWS = 50
# Points of score that a linear head loses from the best depth to the top, from which on all layers train, and number
# of scored rows with which such a difference is no chance.
MIN_LOST_ON_TOP, MIN_SCORED_ROWS = 0.05, 200
# Texts with a smaller share of capital letters have lost their case.
MIN_CAPITAL_SHARE = 0.01
# Maximum share of the free memory for weights, gradients and moments. The rest is for the batch.
MAX_WEIGHTS_SHARE = 0.5


@dataclass(frozen=True)
class Situation:
    """Input of the rules.

    Args:
        facts: Facts about the data.
        main_task: Name of the most important task; None if all tasks matter.
        closeness: Distance of the texts to general text.
        domain: Domain of the texts; None if they are general.
        language: Evidence for the language of the texts.
        capital_share: Share of capital letters among the letters of the texts.
        machine: Available compute.
        encoder: Size of the config's encoder.
        probe: Probe of an encoder with these rows; None if none was made.
    """

    facts: DataFacts
    main_task: str | None
    closeness: Closeness
    domain: DomainEvidence | None
    language: LanguageEvidence
    capital_share: float
    machine: Machine
    encoder: EncoderSize
    probe: LayerProbe | None = None

    def probed(self, task: str) -> TaskProbe | None:
        """Return what a probe of this encoder found for a task; None if none was made."""
        if self.probe is None or self.probe.encoder != self.encoder.name:
            return None
        return next(found for found in self.probe.tasks if found.name == task)

    @property
    def deciding_task(self) -> TaskFacts:
        """The task whose rows decide how much trains: the main task, or the one with the most labeled rows."""
        if self.main_task is None:
            return max(self.facts.tasks, key=lambda task: task.labeled_rows)
        return next(task for task in self.facts.tasks if task.name == self.main_task)


@dataclass(frozen=True)
class Finding:
    """Result of a rule that applies.

    Args:
        rule: Name of the rule.
        evidence: Observation in the data or on the machine that makes the rule apply.
        advice: Advised encoder or depth of training.
        reason: Reason for the advice.
        source: Source of the reason.
        precedence: Reason why the rule takes precedence over later ones.
        is_measured: Whether the evidence is a score that was measured on these rows, rather than general advice for
            what was counted in them.
    """

    rule: str
    evidence: str
    advice: str
    reason: str
    source: str = ""
    precedence: str = ""
    is_measured: bool = False


Rule = Callable[[Situation], Finding | None]


def number_of_rows(task: TaskFacts, precedence: str = "") -> Finding:
    """Advise how much to train from the number of a task's labeled rows.

    Args:
        task: Facts about the task.
        precedence: Reason why the rows of this task decide.
    """
    rows = f"{task.labeled_rows:,} labeled {'row' if task.labeled_rows == 1 else 'rows'}"
    if task.labeled_rows <= MAX_FEW_ROWS:
        amount, advice, source = "few", FROZEN, USUAL
        reason = "so few labels can train a head, and an encoder would memorize them"
    elif task.is_token_task:
        amount, advice, source = "many", ALL, MEASURED
        reason = "it scored best with 20 or more rows"
    elif task.labeled_rows <= MAX_SOME_ROWS:
        amount, advice, source = "some", HEADS_FIRST, MEASURED
        reason = "it scored best with 20 to 100 rows"
    elif task.rows_per_label <= MAX_SOME_ROWS_PER_LABEL:
        amount, advice, source = "some", HEADS_FIRST, MEASURED
        rows += f", {task.rows_per_label:.1f} per label"
        reason = "it scored best with 8 rows for each of 150 labels"
    else:
        amount, advice, source = "many", ALL, MEASURED
        reason = "it scored best with 500 or more rows"
    return Finding(
        rule=f"{amount} rows of {task.name}",
        evidence=f"{task.name} has {rows}",
        advice=advice,
        reason=reason,
        source=source,
        precedence=precedence,
    )


def little_memory(situation: Situation) -> Finding | None:
    """Advise the upper layers if training all weights needs too much memory."""
    needed_bytes, free_bytes = training_bytes(situation.encoder), situation.machine.memory_bytes
    if needed_bytes <= MAX_WEIGHTS_SHARE * free_bytes or number_of_rows(situation.deciding_task).advice == FROZEN:
        return None
    needed, free = format_bytes(needed_bytes, "GiB"), format_bytes(free_bytes, "GiB")
    return Finding(
        rule="little memory",
        evidence=f"weights, gradients and moments of all layers take {needed} of {free}",
        advice=UPPER,
        reason="the upper layers bring most of the gain, and only they need gradients and moments",
        source=f"calculated; {LEE}",
        precedence="what does not fit into memory cannot train",
    )


def lost_on_top(situation: Situation) -> Finding | None:
    """Advise all layers if a probe found that the upper layers have lost what the task needs."""
    task = situation.deciding_task
    found = situation.probed(task.name)
    if found is None or found.kind == REGRESSION or task.labeled_rows < MIN_FAR_ROWS:
        return None
    if found.lost_on_top < MIN_LOST_ON_TOP or found.held_out_rows < MIN_SCORED_ROWS:
        return None
    return Finding(
        rule=f"{task.name} gets lost on the way up",
        evidence=f"linear heads read it best at depth {found.best_depth}, and {100 * found.lost_on_top:.1f} points of "
        f"{found.metric} worse at the top",
        advice=ALL,
        reason="wherever the loss was that large, training all layers scored best",
        source="probed; the advice is measured on SNIPS, see docs/FREEZING.md",
        precedence="it is measured on these rows",
        is_measured=True,
    )


def far_from_general_text(situation: Situation) -> Finding | None:
    """Advise one step deeper than the number of rows does if the texts are far from general text."""
    task = situation.deciding_task
    depth = DEPTHS.index(number_of_rows(task).advice)
    if situation.closeness.far is None or task.labeled_rows < MIN_FAR_ROWS or DEPTHS[depth] == ALL:
        return None
    return Finding(
        rule="far from general text",
        evidence=situation.closeness.far,
        advice=DEPTHS[depth + 1],
        reason="frozen states carry less about texts that differ from those of the pretraining",
        source=f"{PETERS}; {GURURANGAN}",
        precedence="more rows do not improve the frozen states of such texts",
    )


def own_encoder(situation: Situation) -> Finding | None:
    """Advise the config's encoder if the other rules do not know it."""
    name = situation.encoder.name
    if name in KNOWN:
        return None
    return Finding(
        rule="your own encoder",
        evidence=f"the rules do not know {name}",
        advice=name,
        reason="you chose it for a reason that the rules do not know",
        precedence="a guess does not replace your choice",
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
        reason="an English encoder splits such words into meaningless pieces",
        source="Reimers and Gurevych 2020 (Making Monolingual Sentence Embeddings Multilingual)",
        precedence="an encoder that cannot read the language is of no use",
    )


def known_domain(situation: Situation) -> Finding | None:
    """Advise the encoder of the texts' domain."""
    domain = situation.domain
    if domain is None:
        return None
    if domain.share is None:
        evidence = f"the domain is given as {domain.name}"
    else:
        evidence = f"{domain.share:.1%} of the words are {domain.name}: {', '.join(domain.words)}"
    return Finding(
        rule="domain",
        evidence=evidence,
        advice=OF_DOMAIN[domain.name],
        reason="encoders pretrained on a domain are better at its tasks",
        source=GURURANGAN,
        precedence="a few labeled rows do not replace pretraining on texts of the domain",
    )


def no_accelerator(situation: Situation) -> Finding | None:
    """Advise the small encoder on a CPU."""
    if situation.machine.has_accelerator:
        return None
    return Finding(
        rule="no accelerator",
        evidence=str(situation.machine),
        advice=SMALL,
        reason="six narrow layers cost an eighth of twelve layers of the usual width",
        source="calculated",
        precedence="a run that takes a day is not repeated, and the first run is seldom the best",
    )


def labeled_words(situation: Situation) -> Finding | None:
    """Advise a masked language model if the deciding task labels words and there is an accelerator."""
    task = situation.deciding_task
    if not (situation.machine.has_accelerator and task.is_token_task):
        return None
    return Finding(
        rule="words are labeled",
        evidence=f"{task.name} labels words",
        advice=CASED if situation.capital_share >= MIN_CAPITAL_SHARE else UNCASED,
        reason="masked language models score higher on slots than small sentence encoders",
        source=f"{CHEN}, and our scores in docs/RESULTS.md",
        precedence="the deciding task labels words",
    )


def labeled_texts(situation: Situation) -> Finding | None:
    """Advise the strongest sentence encoder if the deciding task labels texts and there is an accelerator."""
    task = situation.deciding_task
    if task.is_token_task or not situation.machine.has_accelerator:
        return None
    return Finding(
        rule="whole texts are labeled",
        evidence=f"{task.name} labels whole texts",
        advice=STRONGEST,
        reason="it is the strongest general sentence encoder",
        source="the table of models of sentence-transformers (sbert.net)",
    )


ENCODER_RULES: tuple[Rule, ...] = (
    own_encoder,
    another_language,
    known_domain,
    no_accelerator,
    labeled_words,
    labeled_texts,
)
DEPTH_RULES: tuple[Rule, ...] = (little_memory, lost_on_top, far_from_general_text)


def find_encoder(situation: Situation) -> list[Finding]:
    """Return the findings about the encoder. The first one decides."""
    return list(_apply(ENCODER_RULES, situation))


def find_depth(situation: Situation) -> list[Finding]:
    """Return the findings about how much of the encoder to train. The first one decides."""
    deciding = situation.deciding_task
    why = (
        "it is the main task"
        if situation.main_task is not None
        else "the encoder learns most from the task with the most rows; choose another with --main-task"
    )
    others = [task for task in situation.facts.tasks if task is not deciding]
    return [*_apply(DEPTH_RULES, situation), number_of_rows(deciding, why), *map(number_of_rows, others)]


def find_conflicts(findings: Sequence[Finding]) -> list[str]:
    """Describe the findings that disagree with the first, and why the first wins."""
    first = findings[0]
    return [
        f"{other.rule!r} ({other.evidence}) suggests {other.advice}; {first.rule!r} ({first.evidence}) suggests "
        f"{first.advice}. {first.rule!r} wins: {first.precedence}."
        for other in findings[1:]
        if other.advice != first.advice
    ]


def _apply(rules: Sequence[Rule], situation: Situation) -> Iterator[Finding]:
    return (finding for rule in rules if (finding := rule(situation)) is not None)
