"""The way of a person with a spreadsheet, in a real browser: from rows.xlsx to a model, without a line of YAML.

All tests share one app, and the later ones use the data of the earlier.
"""

import json
import os
import re
import zipfile

import openpyxl
import pytest

from hf_multitask import MultiTaskModel
from tests.app.browser import TRAINING, choose, go_to, set_epochs
from tests.tiny import SENTENCES

pytestmark = pytest.mark.app

# Would run as a script if a page showed it as HTML.
HOSTILE = '<img src=x onerror="window.hit = 1">'
MUSIC, WEATHER = "music", f"weather {HOSTILE}"


@pytest.fixture(scope="module")
def spreadsheet(tmp_path_factory):
    """Return an Excel file of 120 rows with a text, a label and a date, as a person has it."""
    workbook = openpyxl.Workbook()
    workbook.active.append(["Message", "Topic", "Date"])
    for i in range(120):
        text, label = (f"{SENTENCES[0]} {i}", MUSIC) if i % 2 else (f"{SENTENCES[1]} {i}", WEATHER)
        workbook.active.append([text, label, f"2024-01-{i % 28 + 1:02}"])
    path = tmp_path_factory.mktemp("person") / "rows.xlsx"
    workbook.save(path)
    return path


@pytest.fixture
def own(page, expect):
    """Open the tab for own data."""
    go_to(page, "Own data")
    expect(page.locator("#own-file")).to_be_visible()
    yield page
    assert page.evaluate("window.hit") is None


def drop(page, expect, name, content=None):
    file = name if content is None else {"name": name, "mimeType": "text/plain", "buffer": content}
    page.locator("#own-file input[type=file]").set_input_files(file)
    expect(page.locator("#row-report .notice, #data-problem .error").first).to_be_visible(timeout=TRAINING)


def role(page, number):
    return page.locator(f"#role-{number} input")


def test_a_spreadsheet_becomes_a_downloaded_model(own, expect, tmp_path, spreadsheet):
    drop(own, expect, spreadsheet)
    expect(own.get_by_label("yes, it names the columns")).to_be_checked()
    expect(own.locator("#first-lines")).to_contain_text("line 1")
    expect(own.locator("#preview")).to_contain_text("it is named 'Message'")
    for number, words in enumerate(("the text", "a label: one per text", "not used")):
        expect(role(own, number)).to_have_value(words)
    expect(own.locator("#row-report")).to_contain_text("Rows that can be used: 120.")
    expect(own.locator("#row-report")).to_contain_text(f"Topic: {WEATHER} (60), {MUSIC} (60).")
    own.locator("#save-data").click()
    expect(own.locator("#data-outcome")).to_contain_text("rows-1 is saved")
    own.locator("#train-data").click()

    expect(own.locator("#data input")).to_have_value("rows-1")
    expect(own.locator("#task-name-0 input, #task-name-0 textarea")).to_have_value("Topic")
    expect(own.locator("#task-kind-0 input")).to_have_value("one label per text")
    expect(own.locator("#plan")).to_contain_text("head.Topic", timeout=TRAINING)
    set_epochs(own, 8)
    own.locator("#start").click()
    expect(own.locator("#run-state")).to_contain_text("has finished", timeout=3 * TRAINING)
    expect(own.locator("#run-metrics")).to_contain_text("Topic_accuracy")
    with own.expect_download() as download:
        own.locator("#download-model").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    (config,) = tmp_path.rglob("config.json")
    (task,) = MultiTaskModel.from_pretrained(config.parent).config.tasks
    assert task.labels == [MUSIC, WEATHER]


def test_what_was_understood_is_changed_by_clicking(own, expect, folder):
    lines = [f"schöne Grüße, {i};{'groß' if i % 2 else 'klein'};{i}" for i in range(20)]
    drop(own, expect, "european.csv", "\n".join(lines).encode("cp1252"))
    expect(own.locator("#delimiter input")).to_have_value("semicolon ;")
    expect(own.locator("#encoding input")).to_have_value("Windows, Western Europe (cp1252)")
    expect(own.get_by_label("no, it is a row like the others")).to_be_checked()
    expect(own.locator("#row-report")).to_contain_text("Rows that can be used: 20.")
    own.get_by_label("yes, it names the columns").check()
    expect(own.locator("#row-report")).to_contain_text("Rows that can be used: 19.")
    choose(own, "delimiter", "comma ,")
    expect(own.locator("#preview")).to_contain_text("0;klein;0")
    choose(own, "delimiter", "semicolon ;")
    expect(own.locator("#preview")).not_to_contain_text("0;klein;0")
    own.get_by_label("no, it is a row like the others").check()
    expect(role(own, 1)).to_have_value("a label: one per text")
    choose(own, "role-1", "the text")
    # There is one text.
    expect(role(own, 0)).to_have_value("not used")
    choose(own, "role-2", "a number to predict")
    expect(role(own, 2)).to_have_value("a number to predict")
    own.locator("#save-data").click()
    expect(own.locator("#data-outcome")).to_contain_text("european-1 is saved")
    first = (folder / "app" / "data" / "european-1" / "train.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"text": "klein", "2": "0"}


def test_rows_that_cannot_be_used_are_told_and_left_out(own, expect, folder):
    lines = ["text,label", *(f"say it {i},{'ab'[i % 2]}" for i in range(20)), "too,many,cells", ",a", f"{HOSTILE},a,b"]
    drop(own, expect, "broken.csv", "\n".join(lines).encode())
    report = own.locator("#row-report")
    expect(report).to_contain_text("Rows that cannot be used: 3.")
    for number, problem in ((22, "expected 2 cells (text, label), found 3."), (23, "the text is missing.")):
        expect(report.get_by_role("row", name=re.compile(f"^{number}"))).to_contain_text(problem)
    own.locator("#save-data").click()
    expect(own.locator("#data-outcome")).to_contain_text("Mend them, or tick the box that leaves them out.")
    own.get_by_label("Leave out the rows").check()
    own.locator("#save-data").click()
    expect(own.locator("#data-outcome")).to_contain_text("broken-1 is saved")
    assert len((folder / "app" / "data" / "broken-1" / "train.jsonl").read_text().splitlines()) == 20


def test_refused_files_are_explained_and_do_not_stay(own, expect, folder, tmp_path):
    for name, content, message in (
        ("picture.jsonl", b"\x89PNG\r\n\x1a\n\0\0", "upload: picture.jsonl:1:"),
        ("letter.docx", b"PK\x03\x04", "Save the table as .xlsx or CSV"),
        ("old.xls", b"\xd0\xcf", "Save the table as .xlsx or CSV"),
    ):
        own.locator("#own-file input[type=file]").set_input_files(
            {"name": name, "mimeType": "text/plain", "buffer": content}
        )
        expect(own.locator("#data-problem")).to_contain_text(message)
        own.reload()
        go_to(own, "Own data")
    big = tmp_path / "big.jsonl"
    big.touch()
    os.truncate(big, 2**30)
    own.locator("#own-file input[type=file]").set_input_files(big)
    expect(own.get_by_text(re.compile("exceeds|too large|maximum", re.IGNORECASE)).first).to_be_visible()
    received = {path.name for path in (folder / "app" / "received").rglob("*")}
    assert received.isdisjoint({"picture.jsonl", "letter.docx", "old.xls", "big.jsonl"})


def test_cells_are_pasted_and_labeled_by_hand(own, expect, folder):
    own.locator("#pasted textarea").fill("play jazz in paris\nwill it rain\n" + HOSTILE)
    own.locator("#read-pasted").click()
    expect(own.locator("#understood")).to_be_visible()
    own.get_by_label("no, it is a row like the others").check()
    expect(own.locator("#row-report")).to_contain_text("No column looks like labels")
    own.get_by_role("button", name="Label some rows by hand").click()
    own.get_by_role("radio", name="marks on words").check()
    own.locator("#label-names").get_by_role("textbox").fill("place, style")
    own.locator("#start-labels").click()
    expect(own.locator("#label-position")).to_contain_text("Text 1 of 3. Labeled: 0.")
    own.locator("#label-words").get_by_label("paris").check()
    expect(own.locator("#label-position")).to_contain_text("Labeled: 1.")
    own.locator("#label-mark").get_by_label("style").check()
    expect(own.locator("#label-words").get_by_label("paris (place)")).not_to_be_checked()
    own.locator("#label-words").get_by_label("jazz").check()
    expect(own.locator("#label-words").get_by_label("jazz")).to_be_checked()
    own.locator("#label-next").click()
    expect(own.locator("#label-position")).to_contain_text("Text 2 of 3.")
    own.locator("#label-none").click()
    expect(own.locator("#label-text")).to_contain_text(HOSTILE)

    # A reload loses nothing.
    own.reload()
    go_to(own, "Own data")
    own.get_by_role("button", name="Label some rows by hand").click()
    choose(own, "label-sheet", "pasted-1")
    expect(own.locator("#label-position")).to_contain_text("Text 3 of 3. Labeled: 2.")
    with own.expect_download() as download:
        own.locator("#download-labels").click()
    rows = [json.loads(line) for line in open(download.value.path())]  # noqa: SIM115
    assert rows[0]["entities"] == [
        {"start": 5, "end": 9, "label": "style"},
        {"start": 13, "end": 18, "label": "place"},
    ]
    assert rows[1]["entities"] == []
    own.locator("#save-labels").click()
    expect(own.locator("#data-outcome")).to_contain_text("pasted-1-1 is saved")
    assert (folder / "app" / "data" / "pasted-1-1" / "train.jsonl").is_file()


def test_the_form_of_tasks_needs_no_yaml_and_survives_a_reload(page, expect):
    go_to(page, "Train")
    plan = page.locator("#plan")
    expect(plan).to_contain_text("head.intent", timeout=TRAINING)
    name = page.locator("#task-name-0 input, #task-name-0 textarea")
    name.fill("purpose")
    name.blur()
    expect(plan).to_contain_text("head.purpose", timeout=TRAINING)
    expect(page.get_by_label("freeze head purpose")).to_be_visible()
    page.get_by_role("button", name="Remove task 2").click()
    expect(plan).not_to_contain_text("head.slots", timeout=TRAINING)
    expect(page.locator("#task-1")).to_be_hidden()
    page.locator("#add-task").click()
    expect(page.locator("#task-name-1 input, #task-name-1 textarea")).to_have_value("slots")
    page.get_by_label("quick: half the time").check()
    set_epochs(page, 7)
    expect(plan).to_contain_text("1-28", timeout=TRAINING)
    # U13: a schedule and ticks do not contradict each other.
    page.get_by_label("freeze head purpose").check()
    choose(page, "schedule", "heads-then-all")
    expect(page.get_by_label("freeze head purpose")).to_be_disabled()
    expect(page.locator("#frozen")).to_contain_text("The schedule decides what is frozen")
    expect(plan).not_to_contain_text("1-28", timeout=TRAINING)

    page.reload()
    expect(page.locator("#schedule input")).to_have_value("heads-then-all")
    expect(page.locator("#task-name-0 input, #task-name-0 textarea")).to_have_value("purpose")
    expect(page.get_by_label("quick: half the time")).to_be_checked()
    expect(page.get_by_label("freeze head purpose")).to_be_disabled()
    set_epochs(page, 7)
    choose(page, "schedule", "train everything except the ticked parts")
    expect(page.get_by_label("freeze head purpose")).to_be_enabled()
    expect(page.get_by_label("freeze head purpose")).to_be_checked()


def test_messages_over_the_page_are_no_html(page, expect):
    go_to(page, "Train")
    expect(page.locator("#plan table")).to_be_visible(timeout=TRAINING)
    encoder = page.locator("#encoder input")
    encoder.fill(f"<b id=live>x</b>{HOSTILE}")
    encoder.press("Enter")
    encoder.blur()
    page.locator("#start").click()
    expect(page.get_by_test_id("toast-text")).to_contain_text("found '<b id=live>x</b><img")
    expect(page.locator("#live")).to_have_count(0)
    assert page.evaluate("window.hit") is None


def test_gradio_does_not_advertise_its_links(url, folder):
    log = (folder.parent / "app.log").read_text()
    assert f"The app is at {url}" in log
    assert "share" not in log
