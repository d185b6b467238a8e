"""A study from its start to the run of its winner, in a real browser."""

import re

import pytest

from tests.app.browser import TRAINING, go_to

pytestmark = pytest.mark.app


# Presets by scenario: so many that some are left when Stop is pressed.
FREEZE = {
    "encoder-frozen": "encoder",
    "nothing-frozen": "none",
    "heads-then-all": "heads-then-all",
    "three-stage": "three-stage",
    "gradual": "gradual",
    "progressive": "progressive",
}


def test_a_study_is_watched_stopped_continued_and_its_winner_trained(page, expect, folder):
    go_to(page, "Which layers")
    boxes = page.locator("#scenarios")
    expect(boxes.get_by_role("checkbox").first).to_be_visible(timeout=TRAINING)
    for box in boxes.get_by_role("checkbox").all():
        box.set_checked(False)
    page.locator("#start-study").click()
    expect(page.locator("#study-problem")).to_contain_text("choose at least 2")
    for name in FREEZE:
        boxes.get_by_label(re.compile(f"{name}: ")).check()
    page.locator("#start-study").click()
    state = page.locator("#study-state")
    expect(state).to_contain_text(re.compile("[1-4] of 6 trainings finished"), timeout=TRAINING)
    expect(state.locator("tbody tr").first).to_contain_text("encoder-frozen")
    # A run has to wait for it.
    expect(page.locator("#start-study")).to_be_disabled()
    page.locator("#stop-study").click()
    page.reload()
    expect(state).to_contain_text("app/study-1 was stopped after", timeout=TRAINING)
    page.locator("#continue-study").click()
    expect(state).to_contain_text("app/study-1 has finished", timeout=TRAINING)
    expect(page.locator("#advice")).to_contain_text("scores highest")
    prices = page.locator("#prices tbody tr")
    expect(prices).to_have_count(len(FREEZE))
    winner = prices.filter(has_text="recommended")
    expect(winner).to_have_count(1)
    expect(page.locator("#price-chart svg.marks, #price-chart canvas").first).to_be_visible()
    chosen = winner.locator("td").first.inner_text().splitlines()[0]

    page.locator("#train-winner").click()
    expect(page.locator("#run-state")).to_be_visible()
    expect(page.locator("#run-state")).to_contain_text("app/run-1 has finished", timeout=TRAINING)
    assert f"freeze: {FREEZE[chosen]}\n" in (folder / "app" / "run-1" / "_app" / "config.yaml").read_text()


def test_a_race_shows_its_table_the_time_left_and_what_to_take(page, expect):
    go_to(page, "Which layers")
    boxes = page.locator("#scenarios")
    expect(boxes.get_by_role("checkbox").first).to_be_visible(timeout=TRAINING)
    for box in boxes.get_by_role("checkbox").all():
        box.set_checked(False)
    for name in ("encoder-frozen", "nothing-frozen", "heads-then-all"):
        boxes.get_by_label(re.compile(f"{name}: ")).check()
    page.get_by_label("Trainings of each").fill("2")
    page.get_by_label("Race").check()
    page.locator("#start-study").click()
    state = page.locator("#study-state")
    expect(state).to_contain_text(
        re.compile("of 3 trainings of rung 1 of at most 2 finished, about .* left"), timeout=TRAINING
    )
    page.locator("#stop-study").click()
    expect(state).to_contain_text("was stopped after", timeout=TRAINING)
    page.locator("#continue-study").click()
    expect(state).to_contain_text("has finished", timeout=TRAINING)
    expect(page.locator("#advice")).to_contain_text(re.compile("Use (encoder-frozen|nothing-frozen|heads-then-all)"))
    prices = page.locator("#prices tbody tr")
    expect(prices).to_have_count(3)
    expect(prices.filter(has_text="recommended")).to_have_count(1)
    expect(page.locator("#price-chart svg.marks, #price-chart canvas").first).to_be_visible()
    expect(page.locator("#train-winner")).to_be_visible()


def test_the_layers_are_looked_at_before_any_training(page, expect):
    go_to(page, "Which layers")
    page.get_by_role("button", name="What each layer knows already").click()
    page.locator("#start-probe").click()
    result = page.locator("#probe-result")
    expect(result).to_contain_text("linear heads read it best", timeout=TRAINING)
    expect(result.get_by_role("img")).to_be_visible()
