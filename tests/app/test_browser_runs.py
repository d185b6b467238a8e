"""A run from its start to a download, in a real browser.

The tests share one app, and use the runs of earlier tests in the order of the file.
"""

import re
import zipfile

import pytest
from transformers import pipeline

from tests.app.browser import TRAINING, choose, go_to, open_app, set_epochs
from tests.app.started_app import free_port, started_app

pytestmark = pytest.mark.app

EVIL = "<img src=x onerror=window.pwned=1>"


def start(page, expect, epochs):
    go_to(page, "Train")
    expect(page.locator("#plan table")).to_be_visible(timeout=TRAINING)
    set_epochs(page, epochs)
    page.locator("#start").click()


def test_a_stopped_run_resumes_with_a_button_and_shows_its_mistakes(page, expect):
    start(page, expect, 400)
    state = page.locator("#run-state")
    expect(state).to_contain_text("app/run-1 is training: step", timeout=TRAINING)
    expect(state).to_contain_text(re.compile("(seconds|minutes?) left"), timeout=TRAINING)
    expect(page.locator("#resume")).to_have_count(0)
    page.locator("#stop").click()
    expect(state).to_contain_text("Resume continues from there", timeout=TRAINING)
    step = int(re.search(r"at step ([\d,]+)", state.inner_text())[1].replace(",", ""))
    assert "hf-multitask" not in state.inner_text()

    page.locator("#resume").click()
    expect(state).to_contain_text("app/run-1 is training: step", timeout=TRAINING)
    page.reload()
    expect(state).to_contain_text("app/run-1 is training: step")
    assert int(re.search(r"step ([\d,]+) of", state.inner_text())[1].replace(",", "")) >= step
    page.locator("#stop").click()
    expect(state).to_contain_text("app/run-1 was stopped at step", timeout=TRAINING)

    start(page, expect, 1)
    expect(state).to_contain_text("app/run-2 has finished", timeout=TRAINING)
    mistakes = page.locator("#run-mistakes")
    expect(mistakes).to_contain_text("What the model gets wrong")
    expect(mistakes).to_contain_text(re.compile(r"intent: \d of 9 validation rows are wrong"))
    expect(mistakes.locator("table").first).to_be_visible()


def test_the_button_tries_the_model_on_its_worst_mistake_and_back_returns(page, expect):
    worst = page.locator("#run-mistakes tbody td").first.inner_text()
    page.locator("#try-model").click()
    expect(page.locator("#first-model input")).to_have_value("app/run-2")
    expect(page.locator("#sentence textarea")).to_have_value(worst)
    expect(page.locator(".answer:visible")).to_have_count(2)
    page.go_back()
    expect(page.locator("#run-state")).to_be_visible()
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
    page.go_forward()
    expect(page.locator("#sentence textarea")).to_be_visible()
    page.reload()
    expect(page.locator("#sentence textarea")).to_be_visible()


def test_a_run_is_renamed_downloaded_and_deleted_after_a_question(open_page, expect, folder, tmp_path):
    page, other = open_page(), open_page()
    page.locator("#rename-run").click()
    page.locator("#new-name input, #new-name textarea").fill(f"best {EVIL}")
    page.locator("#save-name").click()
    name = "app/best-img-src-x-onerror-window-pwned-1"
    expect(page.locator("#run input")).to_have_value(name)
    expect(page.locator("#run-state")).to_contain_text(f"{name} has finished")
    # The other tab follows, although its run has gone.
    expect(other.locator("#run-state")).to_contain_text(f"{name} has finished")

    with page.expect_download() as download:
        page.locator("#download-model").click()
    assert download.value.suggested_filename == f"{name[4:]}.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    assert pipeline("multi-task", model=str(tmp_path / name[4:]))("play jazz").keys() == {"intent", "slots"}

    page.locator("#delete-run").click()
    expect(page.locator("#delete-question")).to_contain_text(f"Delete {name} with its model")
    page.locator("#delete-keep").click()
    expect(page.locator("#delete-really")).to_have_count(0)
    assert (folder / name).is_dir()
    page.locator("#delete-run").click()
    page.locator("#delete-really").click()
    expect(page.locator("#run-state")).to_contain_text("app/run-1")
    expect(other.locator("#run-state")).to_contain_text("app/run-1")
    assert not (folder / name).exists()
    assert page.evaluate("window.pwned") is None


def test_a_run_goes_on_while_the_server_is_restarted(browser, app_config, folder, expect):
    page = browser.new_context().new_page()
    # Not one that an app of another test may take in between.
    port = ("--port", str(free_port()))
    with started_app(folder, app_config, *port) as address:
        open_app(page, address, expect)
        # More than pass while a server starts on a busy machine.
        start(page, expect, 20_000)
        expect(page.locator("#run-state")).to_contain_text("app/run-2 is training: step", timeout=TRAINING)
    with started_app(folder, app_config, *port) as again:
        assert again == address
        # The old page stays open and reloads when it finds the server again, which would break off a reload from here.
        page = page.context.new_page()
        open_app(page, again, expect)
        expect(page.locator("#run-state")).to_contain_text("app/run-2 is training: step")
        page.locator("#stop").click()
        expect(page.locator("#run-state")).to_contain_text("app/run-2 was stopped", timeout=TRAINING)
        # The list of runs has the others too.
        choose(page, "run", "app/run-1")
        expect(page.locator("#run-state")).to_contain_text("app/run-1 was stopped")
    page.context.close()
