"""A model of two tasks that the command line has made of a CoNLL file and a table, in a real browser."""

import pytest

from hf_multitask.cli import main
from tests.app.browser import TRAINING, collect_errors, go_to, open_app
from tests.app.started_app import started_app
from tests.documents.files import write_conll, write_csv
from tests.tiny import ROWS

pytestmark = pytest.mark.app


@pytest.fixture(scope="module")
def joint(app_config, tmp_path_factory):
    """Return the config of a model that ``init`` and ``train`` have made, in a folder with the files and ``out``."""
    folder = tmp_path_factory.mktemp("joint")
    write_conll(ROWS, folder / "entities.conll")
    write_csv(ROWS, folder / "rows.csv")
    encoder = str(app_config.parent / "encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["init", "entities.conll", "rows.csv", "--output", "joint.yaml", "--encoder", encoder]) == 0
        assert main(["train", "joint.yaml", "--training.num_train_epochs", "2"]) == 0
    return folder / "joint.yaml"


def test_both_tasks_are_predicted_and_the_data_of_the_config_is_offered(joint, browser, expect):
    page = browser.new_page()
    errors = []
    collect_errors(page, errors)
    with started_app(joint.parent / "out", joint) as address:
        open_app(page, address, expect)
        expect(page.locator("#data input")).to_have_value("joint.yaml")
        expect(page.locator("#plan")).to_contain_text("head.ner, head.intent", timeout=TRAINING)
        go_to(page, "Try")
        expect(page.locator("#first-model input")).to_have_value("entities-rows")
        page.locator("#sentence textarea").fill("play some music in paris")
        page.locator("#sentence textarea").press("Shift+Enter")
        answers = page.locator(".answer:visible")
        expect(answers).to_have_count(2)
        expect(answers.filter(has_text="intent").locator(".score")).to_have_count(len({row["intent"] for row in ROWS}))
        expect(answers.filter(has_text="ner")).to_have_count(1)
        page.close()
    assert not errors
