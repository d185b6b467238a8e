"""Pushing to and loading from the hub, by real requests to a stand-in."""

import ast
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.comparison import approximately
from tests.hub.server import Repository, running_hub
from tests.tiny import ROWS, SENTENCES

pytestmark = pytest.mark.slow  # separate programs, which import everything again

ROOT = Path(__file__).parents[2]
REPO, PRIVATE = "ann/notes", "ann/secret"
TOKENS = {"token-of-ann": "ann", "token-of-bob": "bob"}
# `__init__` and `loading` serve the installed package only: the code of a pushed model is loaded by the Auto classes.
CODE_FILES = {path.name for path in (ROOT / "hf_multitask" / "models").glob("*.py")} - {"__init__.py", "loading.py"}


@pytest.fixture(scope="module")
def hub():
    with running_hub(TOKENS) as hub:
        yield hub


@pytest.fixture(scope="module")
def run_client(hub, tmp_path_factory):
    """Return a function that runs an action of the client program and returns its result."""

    def run(program, *arguments, path=str(ROOT)):
        folder = tmp_path_factory.mktemp("client")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
        }
        environment |= {
            "PYTHONPATH": path,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(folder / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        values = [str(folder / "result.json") if argument is RESULT else argument for argument in arguments]
        finished = subprocess.run(
            [sys.executable, *program, *values],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert finished.returncode == 0, finished.stderr[-4000:]
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))

    return run


RESULT = object()


@pytest.fixture(scope="module")
def act(run_client, tmp_path_factory):
    def act(action, **given):
        path = tmp_path_factory.mktemp("given") / "given.json"
        path.write_text(json.dumps(given), encoding="utf-8")
        return run_client(["-m", "tests.hub.client"], action, RESULT, str(path))

    return act


@pytest.fixture(scope="module")
def published(act, encoder, write_jsonl, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    rows = {"train": ROWS, "validation": ROWS[:10], "test": ROWS[10:]}
    files = {split: str(write_jsonl(part, folder.parent / f"{split}.jsonl")) for split, part in rows.items()}
    given = {"encoder": str(encoder), "folder": str(folder), "files": files}
    result = act("publish", **given, repo=REPO, private_repo=PRIVATE)
    return {**result, "folder": folder}


@pytest.fixture(scope="module")
def used(act, hub, published, write_jsonl, tmp_path_factory):
    pickled = hub.repositories["bob/pickled"] = Repository("bob", private=False)
    files = dict(hub.repositories[REPO].commits[published["second"]])
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    pickled.commit("main", files, "a pickle")
    output = tmp_path_factory.mktemp("predictions") / "out.jsonl"
    given = {"first": published["first"], "rows": str(write_jsonl(ROWS)), "output": str(output)}
    return {**act("use", repo=REPO, private_repo=PRIVATE, **given), "lines": output.read_text().splitlines()}


def files_of(hub, repo, revision="main"):
    found = hub.repositories[repo]
    return found.commits[found.resolve(revision)]


def test_a_push_of_the_trainer_holds_all_that_the_model_needs(hub, published):
    files = files_of(hub, REPO, published["first"])
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "stages.json",
    } | CODE_FILES <= files.keys()
    in_folder = {str(path.relative_to(published["folder"])) for path in published["folder"].rglob("*.safetensors")}
    assert "_freezing/best-3.safetensors" in in_folder  # best weights of a stage, for resuming
    assert {path for path in files if path.endswith(".safetensors")} == {"model.safetensors"}
    assert hub.repositories[REPO].messages[published["second"]] == "Better"


def test_no_file_of_a_push_holds_the_token(hub, published):
    for commit in hub.repositories[REPO].commits.values():
        assert not [path for path, data in commit.items() if b"token-of-ann" in data]


def test_the_card_of_a_push(hub, published):
    card = ModelCard(files_of(hub, REPO, published["first"])["README.md"].decode())
    assert card.data.library_name == "hf-multitask"
    assert card.data.language == "en"
    assert card.data.pipeline_tag == "text-classification"
    assert [example["text"] for example in card.data["widget"]] == [" ".join(row["tokens"]) for row in ROWS[:3]]
    names = {(result.metric_name, result.dataset_split) for result in card.data.eval_results}
    assert {("intent_accuracy", "validation"), ("slots_f1", "validation")} <= names
    assert f'model="{REPO}"' in card.text
    assert "rows in memory" in card.text
    assert "| Stage | heads | all |" in card.text


def test_a_model_that_is_pushed_alone_has_a_card_too(hub, published):
    card = ModelCard(files_of(hub, PRIVATE)["README.md"].decode())
    assert card.data.library_name == "hf-multitask"
    assert f'model="{PRIVATE}"' in card.text
    assert hub.repositories[PRIVATE].private


def test_a_run_of_a_config_pushes_its_scores(hub, published):
    files = files_of(hub, "ann/run")
    card = ModelCard(files["README.md"].decode())
    assert json.loads(files["metrics.json"]).keys() == {"validation", "test"}
    assert {result.dataset_split for result in card.data.eval_results} == {"validation", "test"}
    assert "| test | test.jsonl | 12 |" in card.text
    assert "model.safetensors" in files
    assert not [name for name in files if name.endswith("train.log")]


def test_a_pipeline_by_name_predicts_as_the_model_that_was_pushed(published, used):
    assert used["predictions"] == approximately(published["predictions"], abs=1e-5)
    assert used["input_ids"][0] == 0
    assert used["max_length"] == 48


def test_an_older_revision_has_the_older_weights(published, used):
    assert used["difference"] == pytest.approx([100.0] + [0.0] * (len(used["difference"]) - 1))
    # The command reads the revision too: the later weights are sure of the first label.
    assert used["status"] == 0
    assert max(json.loads(line)["intent"]["score"] for line in used["lines"]) < 0.9
    assert min(row["intent"]["score"] for row in used["predictions"]) > 0.99


def test_the_cards_snippet_prints_predictions(used):
    assert ast.literal_eval(used["printed"]).keys() == {"intent", "slots"}


def test_a_private_model_needs_a_token(used):
    assert used["private_bias"] == used["bias"]
    for case in ("private", "wrong token", "private tokenizer", "missing"):
        kind, message = used["errors"][case]
        assert kind == "ValueError"
        assert "private repository, make sure to pass a token" in message


def test_a_missing_revision_is_named(used):
    kind, message = used["errors"]["revision"]
    assert kind == "ValueError"
    assert "v9 is not a valid git identifier" in message


def test_a_pickle_on_the_hub_is_refused(used):
    kind, message = used["errors"]["pickle"]
    assert kind == "ValueError"
    assert "bob/pickled: expected the weights in model.safetensors" in message


def test_the_models_own_code_predicts_the_same(run_client, published):
    site = sysconfig.get_paths()["purelib"]
    program = ["-S", str(Path(__file__).with_name("stranger.py"))]
    found = run_client(program, REPO, RESULT, json.dumps(SENTENCES), path=site)
    assert found["predictions"] == approximately(published["predictions"], abs=1e-5)
    assert "trust_remote_code" in found["refused"]
    assert found["module"].startswith("transformers_modules.")
    assert ast.literal_eval(found["printed"]).keys() == {"intent", "slots"}


def test_an_upload_that_breaks_off_leaves_the_repository_as_it_was(hub, published):
    for failure in published["failures"]:
        for kind, message in failure["errors"]:
            assert kind == "ConnectionError", failure
            assert f"{REPO}: the upload failed; push again." in message
        assert failure["visible"] == published["first"]
    assert hub.requests["upload"] > 2
    assert list(hub.repositories[REPO].messages.values()) == ["initial commit", "End of training", "Better"]
