"""The app in a real browser.

All tests share one app and one browser, and use the runs of earlier tests in the order of the file.
"""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hf_multitask import run_training
from hf_multitask.study import run_study
from tests.app.browser import TRAINING, choose, collect_errors, go_to, set_epochs

pytestmark = pytest.mark.app

STEPS_TO_LEARN = 400
EVIL = "<img src=x onerror=window.pwned=1>"


def runs(folder):
    return sorted(path.parents[1].name for path in folder.glob("app/*/_app/process.json"))


def test_the_plan_follows_each_choice_at_once(page, expect):
    plan = page.locator("#plan")
    go_to(page, "Train")
    expect(plan).to_contain_text("encoder.0-2", timeout=TRAINING)
    page.get_by_label("freeze encoder").check()
    expect(plan).not_to_contain_text("encoder.0-2")
    expect(plan).to_contain_text("head.intent, head.slots")
    expect(plan).not_to_contain_text("Everything is frozen")
    page.get_by_label("freeze head intent").check()
    page.get_by_label("freeze head slots").check()
    expect(plan).to_contain_text("Everything is frozen: nothing will be learned")
    page.get_by_label("freeze head slots").uncheck()
    expect(plan).not_to_contain_text("Everything is frozen")
    choose(page, "schedule", "three-stage")
    expect(plan).to_contain_text("upper third")
    # The figure of the data is drawn.
    expect(page.locator("#data-picture img")).to_be_visible()
    assert page.locator("#data-picture img").evaluate("image => image.naturalWidth") > 500


def train(page, expect, epochs):
    go_to(page, "Train")
    expect(page.locator("#plan table")).to_be_visible(timeout=TRAINING)
    set_epochs(page, epochs)
    page.locator("#start").click()


def test_a_model_is_trained_to_its_end(page, expect, folder):
    train(page, expect, 3)
    state = page.locator("#run-state")
    expect(state).to_contain_text("app/run-1")
    expect(state).to_contain_text("has finished. Open the Try tab to use its model", timeout=TRAINING)
    expect(page.locator("#run-metrics")).to_contain_text("intent_accuracy")
    scores = json.loads((folder / "app" / "run-1" / "metrics.json").read_text())
    expect(page.locator("#run-metrics")).to_contain_text(f"{scores['test']['slots_f1']:.4f}")
    for plot in ("losses", "scores"):
        expect(page.locator(f"#{plot} .vega-embed, #{plot} svg.marks, #{plot} canvas").first).to_be_visible()
    # Also of curves that have come while the plot was shown.
    for curve in ("intent, training", "slots, training", "intent, validation", "slots, validation"):
        expect(page.locator("#losses .role-legend")).to_contain_text(curve)


def test_two_tabs_start_one_run_that_a_reload_finds_and_that_can_be_stopped(open_page, expect, folder):
    first, second = open_page(), open_page()
    for page in (first, second):
        go_to(page, "Train")
        expect(page.locator("#plan table")).to_be_visible()
        set_epochs(page, 3000)
        expect(page.locator("#plan")).to_contain_text("12000")
    first.locator("#start").click(no_wait_after=True)
    second.locator("#start").click(no_wait_after=True)
    expect(second.locator("#problem")).to_contain_text("app/run-2 is training already")
    assert runs(folder) == ["run-1", "run-2"]
    state = first.locator("#run-state")
    expect(state).to_contain_text("app/run-2 is training: step", timeout=TRAINING)
    expect(first.locator("#start")).to_be_disabled()
    # The progress and the curves update without a click.
    step = step_of(state)
    expect(state).not_to_contain_text(f"step {step:,} of")
    expect(first.locator("#losses svg.marks, #losses canvas").first).to_be_visible()
    second.close()

    first.reload()
    expect(state).to_contain_text("app/run-2 is training: step")
    assert step_of(state) > step
    expect(first.locator("#losses svg.marks, #losses canvas").first).to_be_visible()

    # The next test needs a model that has learned its sentences.
    for _ in range(TRAINING // 500):
        if step_of(state) > STEPS_TO_LEARN:
            break
        first.wait_for_timeout(500)
    first.locator("#stop").click()
    expect(state).to_contain_text("app/run-2 was stopped at step", timeout=TRAINING)
    kept = re.search(r"Saved: (app/run-2/checkpoint-\d+)\.", state.inner_text())[1]
    assert (folder / kept).is_dir()
    expect(first.locator("#start")).to_be_enabled()
    expect(first.locator("#stop")).to_be_disabled()


def step_of(state):
    return int(re.search(r"step ([\d,]+) of", state.inner_text())[1].replace(",", ""))


def test_two_models_predict_texts_and_a_deleted_model_is_reported(page, expect, folder):
    go_to(page, "Try")
    # The newest model has predicted the first sentence already.
    answers = page.locator(".answer:visible")
    expect(answers).to_have_count(2)
    page.locator("#sentence textarea").fill("play some music by the beatles in paris")
    choose(page, "first-model", "app/run-1")
    choose(page, "second-model", "app/run-2")
    page.locator("#sentence textarea").press("Shift+Enter")
    expect(answers).to_have_count(4)
    # The first model has learned no place.
    expect(answers.nth(3).locator(".badge")).to_have_text("differs")
    expect(page.get_by_text("PlayMusic").first).to_be_visible()
    # The second model has seen each sentence hundreds of times and knows the place.
    expect(answers.nth(3)).to_contain_text("paris")
    expect(answers.nth(3)).to_contain_text("place")

    # Several lines are a table, which can be downloaded.
    page.locator("#sentence textarea").fill(f"play some music by the beatles in paris\n{EVIL}")
    page.locator("#ask").click()
    rows = page.locator("#answers tbody tr")
    expect(rows).to_have_count(2)
    expect(page.locator("#answers")).to_contain_text(EVIL)
    with page.expect_download() as download:
        page.locator("#download-csv").click()
    table = list(csv.reader(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()))
    assert table[0][:2] == ["text", "app/run-1: intent"]
    assert {row[0] for row in table[1:]} == {"play some music by the beatles in paris", EVIL}
    # So is a file.
    page.get_by_text("Or a file with many texts").click()
    texts = {"name": "texts.txt", "mimeType": "text/plain", "buffer": b"one text\nanother text\na third\n"}
    page.locator("#texts-file input[type=file]").set_input_files(texts)
    expect(rows).to_have_count(3)
    page.locator("#texts-file").get_by_label(re.compile("clear|remove", re.IGNORECASE)).first.click()
    expect(rows).to_have_count(2)
    page.locator("#sentence textarea").fill("play some music by the beatles in paris")
    page.locator("#ask").click()
    expect(answers).to_have_count(4)
    assert page.evaluate("window.pwned") is None

    shutil.move(folder / "app" / "run-1", folder.parent / "elsewhere")
    page.locator("#ask").click()
    problem = page.locator("#answer-problem .notice")
    expect(problem).to_contain_text("model 'app/run-1' does not exist any more")
    expect(answers).to_have_count(2)
    choose(page, "first-model", "app/run-2")
    expect(answers).to_have_count(4)
    expect(problem).to_have_count(0)
    page.locator("#sentence textarea").fill("   ")
    page.locator("#ask").click()
    expect(problem).to_contain_text("expected at least one text, found none")
    expect(answers).to_have_count(0)


def test_a_study_has_a_sortable_table_and_curves_with_tooltips(page, expect, folder):
    go_to(page, "Which layers")
    expect(page.locator("#advice")).to_contain_text("Freeze nothing: it scores best")
    prices = page.locator("#prices tbody tr")
    expect(prices).to_have_count(3)
    # The cheapest first.
    expect(prices.first).to_contain_text("encoder frozen")
    page.get_by_role("button", name="All numbers and learning curves").click()
    table = page.locator("#results")
    first_cell = table.get_by_role("gridcell").first
    expect(first_cell).to_contain_text("nothing frozen")
    header = table.get_by_role("columnheader", name="time, s")
    header.hover()
    header.get_by_role("button").click()
    page.get_by_role("menuitem", name="Sort ascending").click()
    expect(first_cell).to_contain_text("encoder frozen")
    plot = page.locator("#study-curves")
    marks = plot.locator("svg.marks, canvas").first
    marks.scroll_into_view_if_needed()
    box = marks.bounding_box()
    tip = page.locator("#vg-tooltip-element")
    for share in (0.3, 0.35, 0.4, 0.45, 0.5):
        for height in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + height * box["height"])
            if tip.is_visible():
                break
    expect(tip).to_contain_text("epoch")
    choose(page, "curve", "slots: loss on validation")
    expect(plot).to_contain_text("slots: loss on validation")

    broken = folder / "studies" / "broken"
    broken.mkdir()
    (broken / "study.json").write_text("{")
    page.reload()
    # The tab stays open.
    expect(page.locator("#study input")).to_be_visible()
    choose(page, "study", "studies/broken")
    expect(page.locator("#advice")).to_contain_text("is not a study")
    shutil.rmtree(broken)


def test_files_outside_the_folder_are_not_served(browser, url, folder):
    secret = folder.parent / "secret.txt"
    secret.write_text("xyzzy")
    context = browser.new_context()
    for path in (secret, "/etc/passwd", folder / "app" / "received" / ".." / ".." / ".." / "secret.txt"):
        answer = context.request.get(f"{url}/gradio_api/file={path}")
        assert answer.status in (403, 404)
        assert "xyzzy" not in answer.text()
        assert "root:" not in answer.text()
    context.close()


def test_reports_open_offline_without_an_error(browser, base, tmp_path):
    run_study(base, tmp_path / "study", ["encoder-frozen", "nothing-frozen"], seeds=1)
    run_training(replace(base, output_dir=str(tmp_path / "run")))
    context = browser.new_context(offline=True)
    page = context.new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    collect_errors(page, errors)
    for report in (tmp_path / "study" / "study.html", tmp_path / "run" / "report.html"):
        requests.clear()
        page.goto(report.as_uri())
        assert page.locator("svg:visible").count() > 1
        assert page.locator("table:visible").count() > 1
        assert [address for address in requests if not address.startswith("data:")] == [report.as_uri()]
    assert not errors
    context.close()
