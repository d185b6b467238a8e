"""Cost of a run, and effect of a time budget, with a fixed speed instead of a measured one."""

import re
from dataclasses import replace

import pytest

from hf_multitask import RunConfig
from hf_multitask.freezing import build_schedule
from hf_multitask.recommendation.candidates import MIN_EPOCHS_IN_BUDGET, CandidatePlanner
from hf_multitask.recommendation.cost_model import CostModel, Machine
from hf_multitask.recommendation.data_facts import DataFacts, TaskFacts
from hf_multitask.recommendation.domain_distance import Closeness
from hf_multitask.recommendation.encoder_catalogue import KNOWN, OF_DOMAIN, SMALL, STRONGEST, named_groups
from hf_multitask.recommendation.language import DomainEvidence, LanguageEvidence
from hf_multitask.recommendation.rules import ALL, FROZEN, Situation
from hf_multitask.training.settings import EPOCHS_OF_MANY_ROWS, MAX_EPOCHS, MIN_EPOCHS

TASKS = [{"name": "intent", "type": "sequence_classification"}, {"name": "slots", "type": "token_classification"}]
# A tenth of a millisecond per subword: 300,000 subwords take half a minute.
SECONDS_PER_SUBWORD = 1e-4


def config(encoder=SMALL):
    return RunConfig.from_dict({"encoder": encoder, "tasks": TASKS, "data": {"train": "a"}, "output_dir": "out"})


def planner(rows=20_000, encoder=SMALL, domain=None, device="cpu"):
    tasks = [
        TaskFacts("intent", "single_label_classification", rows, {}),
        TaskFacts("slots", "token_classification", rows, {}),
    ]
    facts = DataFacts(tasks, rows, 15 * rows, 15 * rows // 10, 128, 0.0, 1.2, 0.0, ["play jazz"])
    situation = Situation(
        facts,
        None,
        Closeness(0.0, 1.2, 0.0, 1.2, 0.3),
        domain,
        LanguageEvidence(0.3, 0.0, True),
        0.0,
        Machine(device, device, 2, 64 * 2**30),
        KNOWN[encoder],
    )
    groups = named_groups(KNOWN[encoder], ["intent", "slots"])
    return CandidatePlanner(situation, groups, CostModel(SECONDS_PER_SUBWORD, KNOWN[encoder], facts))


def test_frozen_layers_cost_one_pass_however_many_epochs():
    one, many = (planner().candidate(KNOWN[SMALL], FROZEN, epochs).minutes for epochs in (3, 30))
    assert one == pytest.approx(many) == pytest.approx((300_000 + 30_000) * 1e-4 / 60)


def test_trained_layers_cost_every_epoch():
    three, thirty = (planner().candidate(KNOWN[SMALL], ALL, epochs).minutes for epochs in (3, 30))
    assert thirty == pytest.approx(10 * three)
    assert three == pytest.approx(3 * (3.5 * 300_000 + 30_000) * 1e-4 / 60)


def test_more_trained_layers_cost_more():
    plan = planner()
    groups = plan.groups

    def minutes(preset):
        return plan.costs.minutes(KNOWN[SMALL], groups, build_schedule(preset, groups, 6), 6)

    costs = [minutes(preset) for preset in ("encoder", "top:2", "three-stage", "heads-then-all", "none")]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_cost_grows_with_the_number_and_the_size_of_layers():
    plan = planner()
    small, base = (plan.candidate(KNOWN[name], ALL, 5).minutes for name in (SMALL, STRONGEST))
    assert base / small == pytest.approx(2 * 4), "twice as many layers of twice the size"


@pytest.mark.parametrize(
    ("rows", "epochs"), [(10, MAX_EPOCHS), (320, 25), (10_000, MIN_EPOCHS), (1_000_000, EPOCHS_OF_MANY_ROWS)]
)
def test_few_rows_take_more_epochs(rows, epochs):
    assert planner(rows).recommend(config()).epochs == epochs


def test_without_a_budget_nothing_is_reduced():
    recommendation = planner().recommend(config())
    assert (recommendation.preset, recommendation.epochs, recommendation.encoder) == ("none", MIN_EPOCHS, SMALL)
    assert recommendation.conflicts == []


def test_a_budget_reduces_epochs_first():
    free = planner().recommend(config())
    short = planner().recommend(config(), time_budget=free.minutes * 0.7)
    assert (short.preset, short.encoder) == (free.preset, free.encoder)
    assert MIN_EPOCHS_IN_BUDGET <= short.epochs < free.epochs
    assert short.minutes <= free.minutes * 0.7
    (conflict,) = short.conflicts
    assert re.search(
        rf"advise {SMALL}, all layers, {MIN_EPOCHS} epochs .* allows {SMALL}, all layers, 4 epochs", conflict
    )
    assert "wins: a run that does not finish in time is worth nothing" in conflict


def test_a_budget_reduces_a_larger_encoder_before_layers():
    plan = planner(domain=DomainEvidence("legal"))
    assert plan.recommend(config()).encoder == OF_DOMAIN["legal"]
    free = plan.candidate(KNOWN[OF_DOMAIN["legal"]], ALL, MIN_EPOCHS)
    short = plan.recommend(config(), time_budget=free.minutes / 4)
    assert (short.encoder, short.preset) == (SMALL, "none")
    assert OF_DOMAIN["legal"] in short.conflicts[-1]
    assert all(reason.rule != "domain" for reason in short.reasons), "an overruled finding is not a reason"


def test_a_budget_reduces_layers_last():
    free = planner().recommend(config())
    shortest = free.minutes * MIN_EPOCHS_IN_BUDGET / free.epochs
    assert planner().recommend(config(), shortest * 0.6).preset == "top:2"
    assert planner().recommend(config(), shortest * 0.2).preset == "encoder"


def test_a_budget_that_is_too_small_names_the_shortest_run():
    with pytest.raises(
        ValueError, match=rf"nothing fits into 0.01 minutes; the shortest run, {SMALL}, encoder frozen"
    ):
        planner().recommend(config(), time_budget=0.01)


def test_streams_keep_their_steps():
    asked = replace(config(), data=replace(config().data, streaming=True), training={"max_steps": 50})
    training = planner().recommend(asked).config.training
    assert training["max_steps"] == 50
    assert "num_train_epochs" not in training
    assert "max_steps" not in planner().recommend(replace(config(), training={"max_steps": 50})).config.training
