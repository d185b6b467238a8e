"""Each rule by itself, and the conflicts between rules."""

from dataclasses import replace

import pytest

from hf_multitask.probing import LayerProbe, TaskProbe
from hf_multitask.recommendation.cost_model import Machine
from hf_multitask.recommendation.data_facts import DataFacts, TaskFacts
from hf_multitask.recommendation.domain_distance import Closeness
from hf_multitask.recommendation.encoder_catalogue import (
    CASED,
    KNOWN,
    MULTILINGUAL,
    OF_DOMAIN,
    SMALL,
    STRONGEST,
    UNCASED,
)
from hf_multitask.recommendation.language import DomainEvidence, LanguageEvidence
from hf_multitask.recommendation.rules import (
    ALL,
    DEPTHS,
    FROZEN,
    HEADS_FIRST,
    MAX_FEW_ROWS,
    MAX_SOME_ROWS,
    MAX_SOME_ROWS_PER_LABEL,
    UPPER,
    Situation,
    find_conflicts,
    find_depth,
    find_encoder,
    number_of_rows,
)

GIBIBYTE = 2**30
NEAR = Closeness(0.0, 1.2, 0.0, 1.2, distance=0.3)
ENGLISH = LanguageEvidence(function_words=0.3, other_letters=0.0, enough=True)


def task(name="intent", rows=5000, kind="single_label_classification", counts=None):
    return TaskFacts(name, kind, rows, counts or {})


def words(name="slots", rows=5000):
    return task(name, rows, "token_classification")


@pytest.fixture
def situation():
    facts = DataFacts([task()], 5000, 60_000, 5000, 128, 0.0, 1.2, 0.0, ["play jazz"])
    return Situation(
        facts=facts,
        main_task=None,
        closeness=NEAR,
        domain=None,
        language=ENGLISH,
        capital_share=0.05,
        machine=Machine("cpu", "cpu", 2, 16 * GIBIBYTE),
        encoder=KNOWN[SMALL],
    )


def with_tasks(situation, *tasks, **changes):
    return replace(situation, facts=replace(situation.facts, tasks=list(tasks)), **changes)


GPU = Machine("cuda", "a GPU", 16, 80 * GIBIBYTE)


@pytest.mark.parametrize(
    ("kind", "max_rows", "advice"),
    [(task, MAX_FEW_ROWS, FROZEN), (task, MAX_SOME_ROWS, HEADS_FIRST), (words, MAX_FEW_ROWS, FROZEN)],
)
def test_advice_changes_after_the_maximum_number_of_rows(kind, max_rows, advice):
    last, next_one = number_of_rows(kind(rows=max_rows)), number_of_rows(kind(rows=max_rows + 1))
    assert last.advice == advice
    assert next_one.rule != last.rule


def test_few_rows_per_label_train_the_heads_first(situation):
    counts = {f"label {i}": MAX_SOME_ROWS_PER_LABEL for i in range(100)} | {"label without rows": 0}
    last = number_of_rows(task(rows=100 * MAX_SOME_ROWS_PER_LABEL, counts=counts))
    assert last.advice == HEADS_FIRST
    assert last.evidence == "intent has 800 labeled rows, 8.0 per label"
    assert number_of_rows(task(rows=100 * MAX_SOME_ROWS_PER_LABEL + 1, counts=counts)).advice == ALL
    assert number_of_rows(task(rows=800, kind="regression")).advice == ALL


@pytest.mark.parametrize("kind", [task, words])
def test_more_rows_never_train_less(kind):
    depths = [DEPTHS.index(number_of_rows(kind(rows=rows)).advice) for rows in (1, 99, 100, 1000, 1001, 10**9)]
    assert depths == sorted(depths)
    assert DEPTHS[depths[-1]] == ALL


def test_the_task_with_the_most_rows_decides_and_others_are_conflicts(situation):
    few = task("mood", 20)
    findings = find_depth(with_tasks(situation, few, task("intent", 5000)))
    assert findings[0].advice == ALL
    assert findings[0].evidence == "intent has 5,000 labeled rows"
    (conflict,) = find_conflicts(findings)
    assert "mood has 20 labeled rows" in conflict
    assert " wins: the encoder learns most from the task with the most rows" in conflict


def test_the_main_task_decides_however_few_its_rows(situation):
    findings = find_depth(with_tasks(situation, task("mood", 20), task("intent", 5000), main_task="mood"))
    assert findings[0].advice == number_of_rows(task("mood", 20)).advice != ALL
    (conflict,) = find_conflicts(findings)
    assert "intent has 5,000 labeled rows) suggests all layers" in conflict
    assert conflict.endswith(" wins: it is the main task.")


def test_tasks_that_agree_do_not_conflict(situation):
    assert find_conflicts(find_depth(with_tasks(situation, task("a", 4000), task("b", 3000)))) == []


@pytest.mark.parametrize(
    ("closeness", "evidence"),
    [
        (replace(NEAR, subwords_per_word=1.8), "1.50 times as many subwords"),
        (replace(NEAR, unknown_share=0.05), "5.0% of the subwords are unknown"),
        (replace(NEAR, distance=1.5), "1.50 spreads of general text away"),
    ],
)
def test_texts_far_from_general_text_train_a_step_deeper(situation, closeness, evidence):
    some = task("intent", 80)
    near = find_depth(with_tasks(situation, some))
    assert near[0].advice != ALL
    far = find_depth(with_tasks(situation, some, closeness=closeness))
    assert DEPTHS.index(far[0].advice) == DEPTHS.index(near[0].advice) + 1
    assert evidence in far[0].evidence
    (conflict,) = find_conflicts(far)
    assert "'some rows of intent' (intent has 80 labeled rows)" in conflict
    assert "more rows do not improve the frozen states" in conflict


def test_a_handful_of_far_rows_stays_frozen(situation):
    far = replace(NEAR, distance=1.5)
    assert find_depth(with_tasks(situation, task("intent", 19), closeness=far))[0].rule == "few rows of intent"


def test_what_does_not_fit_into_memory_does_not_train(situation):
    small = replace(situation, machine=Machine("cpu", "cpu", 2, GIBIBYTE // 2))
    findings = find_depth(small)
    assert findings[0].advice == UPPER
    assert "of 0.5 GiB" in findings[0].evidence
    (conflict,) = find_conflicts(findings)
    assert "what does not fit into memory cannot train" in conflict


@pytest.mark.parametrize(
    ("changes", "tasks", "encoder"),
    [
        ({}, [task()], SMALL),
        ({"machine": GPU}, [task()], STRONGEST),
        ({"machine": GPU}, [words()], CASED),
        ({"machine": GPU, "capital_share": 0.0}, [words()], UNCASED),
        ({"language": LanguageEvidence(0.0, 0.9, True)}, [task()], MULTILINGUAL),
        ({"language": LanguageEvidence(0.01, 0.0, True), "machine": GPU}, [task()], MULTILINGUAL),
        ({"domain": DomainEvidence("biomedical")}, [task()], OF_DOMAIN["biomedical"]),
        ({"domain": DomainEvidence("legal", 0.1, ("court",))}, [words()], OF_DOMAIN["legal"]),
        ({"domain": DomainEvidence("finance", 0.1, ("bond",))}, [words()], OF_DOMAIN["finance"]),
        ({"encoder": replace(KNOWN[SMALL], name="models/mine")}, [task()], "models/mine"),
    ],
)
def test_the_encoder(situation, changes, tasks, encoder):
    assert find_encoder(with_tasks(situation, *tasks, **changes))[0].advice == encoder


def test_a_domain_takes_precedence_over_a_small_machine(situation):
    findings = find_encoder(replace(situation, domain=DomainEvidence("legal", 0.08, ("court", "statute"))))
    assert findings[0].advice == OF_DOMAIN["legal"]
    assert findings[0].evidence == "8.0% of the words are legal: court, statute"
    (about_compute,) = find_conflicts(findings)
    assert f"'no accelerator' (2 cores, no accelerator, 16.0 GiB free) suggests {SMALL}" in about_compute
    assert "do not replace pretraining on texts of the domain" in about_compute


def test_every_rule_has_reason_and_precedence(situation):
    findings = find_encoder(
        replace(
            situation,
            domain=DomainEvidence("legal"),
            language=LanguageEvidence(0.0, 1.0, True),
            encoder=replace(KNOWN[SMALL], name="mine"),
            machine=GPU,
        )
    )
    assert [finding.rule for finding in findings] == [
        "your own encoder",
        "another language",
        "domain",
        "whole texts are labeled",
    ]
    assert all(finding.reason and finding.evidence for finding in findings)
    assert all(finding.precedence for finding in findings[:-1])


def probed(situation, scores, task="intent", rows=200, encoder=SMALL, scored=200):
    found = TaskProbe(task, "single_label_classification", "accuracy", rows, scored, scores, {})
    probe = LayerProbe(encoder, [f"depth {i}" for i in range(len(scores))], [found], "validation", 0, 1.0)
    facts = replace(situation.facts, tasks=[TaskFacts(task, found.kind, rows, {})])
    return replace(situation, facts=facts, probe=probe)


def test_what_gets_lost_on_the_way_up_trains_all_layers(situation):
    lost = probed(situation, [0.7, 0.9, 0.8])
    first, *others = find_depth(lost)
    assert (first.advice, first.is_measured) == (ALL, True)
    assert first.evidence == "linear heads read it best at depth 1, and 10.0 points of accuracy worse at the top"
    assert [other.advice for other in others] == [HEADS_FIRST], "which the number of rows advises"
    assert "it is measured on these rows" in find_conflicts([first, *others])[0]


@pytest.mark.parametrize(
    "changes",
    [{"scores": [0.7, 0.9, 0.86]}, {"rows": 49}, {"encoder": STRONGEST}, {"scored": 199}],
    ids=["little is lost", "few rows", "the probe of another encoder", "few scored rows"],
)
def test_where_the_rules_stay_as_they_are_with_a_probe(situation, changes):
    given = {"scores": [0.7, 0.9, 0.8], **changes}
    findings = find_depth(probed(situation, **given))
    assert not any(finding.is_measured for finding in findings)
    assert findings[0].advice == find_depth(replace(probed(situation, **given), probe=None))[0].advice
