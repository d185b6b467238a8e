"""A tiny config, an untrained model of it, a study, and the app in a real browser."""

import json
import shutil

import pytest

from hf_multitask import RunConfig
from hf_multitask.app.services import Services
from tests.app.browser import BROKEN_OFF, WAIT, collect_errors, open_app
from tests.app.started_app import started_app
from tests.tiny import save_tiny_run


@pytest.fixture(scope="session")
def app_config(tmp_path_factory):
    """Write a config with its data and a tiny encoder in the same folder, and return its path."""
    folder = tmp_path_factory.mktemp("config")
    training = {"num_train_epochs": 3, "learning_rate": 1e-3, "per_device_train_batch_size": 4}
    return save_tiny_run(folder, training, "out").rename(folder / "tiny.yaml")


@pytest.fixture
def base(app_config):
    return RunConfig.from_file(app_config)


@pytest.fixture
def services(tmp_path, app_config):
    return Services(tmp_path / "out", app_config)


@pytest.fixture(scope="session")
def save_model():
    """Return a function that writes an untrained model of the tiny config into a folder."""
    from hf_multitask import MultiTaskModel, load_tokenizer, prepare_datasets

    def save(config_path, folder):
        config = RunConfig.from_file(config_path)
        tokenizer = load_tokenizer(config.encoder)
        tasks = prepare_datasets(config.data_configs, tokenizer, config.tasks).tasks
        MultiTaskModel.from_encoder(config.encoder, tasks).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def save_study():
    """Return a function that writes a small study into a folder."""
    from hf_multitask import TaskConfig
    from hf_multitask.study.study_results import Front, RunResult, ScenarioResult, Score, Study, Summary

    scores = {"nothing frozen": (0.9, 0.8, 20.0), "encoder frozen": (0.6, 0.7, 5.0), "gradual": (0.8, 0.85, 30.0)}
    tasks = [
        TaskConfig("intent", "sequence_classification", labels=["a", "b"], problem_type="single_label_classification"),
        TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place"]),
    ]

    def history(intent, slots):
        return [
            {
                "epoch": float(epoch),
                "step": 10 * epoch,
                "eval_intent_accuracy": intent * epoch / 3,
                "eval_slots_f1": slots * epoch / 3,
                "eval_intent_loss": 1 / epoch,
                "eval_slots_loss": 2 / epoch,
            }
            for epoch in (1, 2, 3)
        ]

    def save(folder):
        scenarios = []
        for name, (intent, slots, seconds) in scores.items():
            path = folder / "runs" / f"{name.replace(' ', '-')}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"history": history(intent, slots), "stages": [], "tasks": []}))
            shared = {
                "seconds": seconds,
                "total_seconds": seconds,
                "peak_memory_bytes": 2**28,
                "trainable_parameters": int(1000 * seconds),
                "drift": {"pooled": seconds / 100, "tokens": seconds / 100},
                "forgetting": {},
                "frozen_task": None,
                "loss_gap": 0.1,
            }
            run = RunResult(
                size=100,
                seed=0,
                metrics={"test": {"intent_accuracy": intent, "slots_f1": slots}},
                parameters=50_000,
                epochs=3.0,
                kept_epoch=3.0,
                out_of_time=False,
                history=path.relative_to(folder).as_posix(),
                model=None,
                **shared,
            )
            summary = Summary(
                size=100,
                seeds=[0],
                scores={"intent": Score("accuracy", intent, None), "slots": Score("f1", slots, None)},
                overall=Score("mean", (intent + slots) / 2, None),
                **shared,
            )
            scenarios.append(ScenarioResult(name, f"{name}, in words", [run], [summary]))
        Study(
            config={},
            num_rows={"train": 100},
            tasks=tasks,
            main_metrics={"intent": "intent_accuracy", "slots": "slots_f1"},
            scenarios=scenarios,
            pareto=[Front(100, ["encoder frozen", "nothing frozen"])],
            advice="Freeze nothing: it scores best on these rows.",
            folder=folder,
        ).save()
        return folder

    return save


@pytest.fixture(scope="module")
def playwright_api():
    return pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def expect(playwright_api):
    playwright_api.expect.set_options(timeout=WAIT)
    return playwright_api.expect


@pytest.fixture(scope="module")
def browser(playwright_api):
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("the tests of the app need chromium: apt-get install chromium")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, save_study):
    """Return the folder of the app, which contains a study."""
    folder = tmp_path_factory.mktemp("app") / "out"
    save_study(folder / "studies" / "places")
    return folder


@pytest.fixture(scope="module")
def url(folder, app_config):
    """Start the app as a user does, and return its address."""
    with started_app(folder, app_config) as address:
        yield address


@pytest.fixture
def open_page(browser, url, expect):
    """Return a function that opens the app in a new tab, and check the requests of all tabs afterwards."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT)
    requests, errors = [], []
    context.on("request", lambda request: requests.append(request.url))

    def open_tab():
        page = context.new_page()
        collect_errors(page, errors)
        open_app(page, url, expect)
        return page

    yield open_tab
    context.close()
    elsewhere = [address for address in requests if not address.startswith((url, "data:", "blob:"))]
    assert requests
    assert not elsewhere
    assert not [text for text in errors if not BROKEN_OFF.search(text)]


@pytest.fixture
def page(open_page):
    return open_page()
