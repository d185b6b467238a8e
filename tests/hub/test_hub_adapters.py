"""Adapters on the hub: the base stays where it is, at its revision."""

import json
import sysconfig
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from tests.comparison import approximately
from tests.hub.server import Repository
from tests.hub.test_hub import RESULT, act, hub, run_client  # noqa: F401
from tests.tiny import SENTENCES

pytestmark = pytest.mark.slow  # separate programs, which import everything again

BASE, REPO = "ann/base", "ann/adapted"


@pytest.fixture(scope="module")
def published(act, hub, encoder, tmp_path_factory):  # noqa: F811
    """Push a model with adapters, and then other weights of its base."""
    base = hub.repositories[BASE] = Repository("ann", private=False)
    files = {path.name: path.read_bytes() for path in encoder.iterdir() if path.is_file()}
    commit = base.commit("main", files, "first")
    result = act("publish_adapters", base=BASE, folder=str(encoder), repo=REPO)
    weights = {name: weight + torch.randn_like(weight) for name, weight in load(files["model.safetensors"]).items()}
    base.commit("main", {**files, "model.safetensors": save(weights, {"format": "pt"})}, "second")
    return {**result, "commit": commit}


def files_of(hub, repo):  # noqa: F811
    found = hub.repositories[repo]
    return found.commits[found.resolve("main")]


@pytest.mark.parametrize("repo", [REPO, f"{REPO}-alone"])
def test_a_push_holds_the_adapter_and_no_encoder(repo, hub, published):  # noqa: F811
    files = files_of(hub, repo)
    assert {"adapter-default/adapter_config.json", "adapter-default/adapter_model.safetensors"} <= files.keys()
    assert all(name.startswith("heads.") or "lora" in name for name in load(files["model.safetensors"]))
    config = json.loads(files["config.json"])["base_encoder"]
    assert (config["name_or_path"], config["revision"]) == (BASE, published["commit"])


@pytest.mark.parametrize("repo", [REPO, f"{REPO}-alone"])
def test_it_predicts_as_the_model_that_was_pushed(repo, act, published):  # noqa: F811
    used = act("use_adapters", base=BASE, repo=repo)
    assert used["predictions"] == approximately(published["predictions"], abs=1e-5)
    assert used["revision"] == used["adapter_revision"] == published["commit"]
    assert used["difference"] < 1e-6


def test_its_own_code_predicts_the_same(run_client, published):  # noqa: F811
    program = ["-S", str(Path(__file__).with_name("stranger.py"))]
    found = run_client(program, REPO, RESULT, json.dumps(SENTENCES), path=sysconfig.get_paths()["purelib"])
    assert found["predictions"] == approximately(published["predictions"], abs=1e-5)
    assert found["module"].startswith("transformers_modules.")


def test_adapters_of_an_encoder_in_a_folder_are_not_pushed(published):
    for kind, message in published["errors"]:
        assert kind == "ValueError"
        assert "which is not on the hub. Push the encoder" in message
