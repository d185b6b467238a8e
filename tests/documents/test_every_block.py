"""Each code block of the README and of docs/ is run by a test, or listed here with the reason why not."""

import importlib
import re

import pytest

from tests.documents.blocks import DOCUMENTS, LANGUAGES, ROOT, find_block, is_claimed, read_blocks

# By document, language and a text in the block.
NOT_RUN = {
    (
        "docs/CALIBRATION.md",
        "bash",
        "snips/validation.jsonl",
    ): "needs a model of SNIPS; the first command is run above",
    ("docs/CALIBRATION.md", "bash", "clinc.csv"): "needs SNIPS and CLINC150; tests/runs runs the option on few rows",
    ("docs/CALIBRATION.md", "bash", "test-and-oos.csv"): "needs CLINC150; tests/runs runs such commands on few rows",
    ("docs/MISTAKES.md", "bash", "pip install"): "installs; `make test` has installed the same way",
    (
        "docs/MISTAKES.md",
        "bash",
        "benchmark.py label-issues",
    ): "takes minutes; tests/scripts runs it small",
    ("README.md", "bash", "make quickstart"): "`make test` is what runs this; .ci/run calls the targets",
    ("README.md", "bash", "pip install -c"): "installs; `make test` has installed the same way",
    ("README.md", "bash", "--index-url"): "installs from the index of torch, which is not reached in tests",
    ("docs/APP.md", "bash", "hf-multitask app"): "serves until it is stopped; `make test-app` opens it in a browser",
    ("docs/RESULTS.md", "bash", "--variants"): "takes an hour; tests/scripts runs it on few rows",
    (
        "docs/RESULTS.md",
        "bash",
        "few-rows",
    ): "needs SetFit; tests/scripts runs our trainings on few rows",
    ("docs/INFERENCE.md", "python", "trainer.push_to_hub"): "needs the hub; tests/hub runs it on a stand-in",
    ("docs/CONTRIBUTING.md", "bash", "make test"): "`.ci/run` calls the targets",
    ("docs/QUICKSTART.md", "bash", "pip install -c"): "installs; `make test` has installed the same way",
    (
        "docs/DISTRIBUTED.md",
        "bash",
        "2-gpus.yaml",
    ): "needs GPUs; tests/distributed starts the files on a CPU's processes",
    (
        "docs/PERFORMANCE.md",
        "bash",
        "benchmark.py study",
    ): "takes minutes; tests/scripts runs it small",
    (
        "docs/SERVING.md",
        "bash",
        "hf-multitask[serve]",
    ): "serves until it is stopped; tests/serving starts and stops servers",
    (
        "docs/SERVING.md",
        "bash",
        "http.server",
    ): "serves until it is stopped; tests/serving/test_page.py runs the script",
    ("docs/SERVING.md", "bash", "docker build"): "needs a docker daemon and the index of torch",
    ("docs/SERVING.md", "bash", "systemctl"): "changes the system",
    (
        "docs/PERFORMANCE.md",
        "bash",
        "benchmark.py serving",
    ): "takes minutes; tests/scripts runs it small",
    ("docs/TUNING.md", "bash", "hf-multitask tune"): "takes minutes; tests/tuning runs such a search on few rows",
    ("docs/TUNING.md", "bash", "benchmark.py tune"): "takes an hour; tests/scripts runs it small",
    ("docs/RESULTS.md", "bash", "out/average"): "takes minutes; tests/runs/test_averaging.py averages such models",
    ("docs/SHARING.md", "bash", "--alone"): "takes minutes; tests/study runs such a study on few rows",
    (
        "docs/SHARING.md",
        "bash",
        "benchmark.py sharing-scores",
    ): "takes three hours; tests/scripts runs it small",
    (
        "docs/FREEZING.md",
        "bash",
        "--scenarios nothing-frozen,lora,lora:top:2,top:2 --seeds 1",
    ): "takes two hours; tests/scripts and tests/runs/test_lora.py train adapters on few rows",
    ("docs/FREEZING.md", "bash", "--processes 2"): "takes minutes; tests/study runs such a study on few rows",
    (
        "docs/FREEZING.md",
        "bash",
        "--datasets clinc150 wnut17 snips --epochs 6",
    ): "takes four hours; tests/scripts runs it small",
    (
        "docs/FREEZING.md",
        "bash",
        "--picture curve.png",
    ): "takes half an hour; tests/scripts runs it small",
    (
        "docs/FREEZING.md",
        "bash",
        "benchmark.py few-rows",
    ): "takes an hour; tests/scripts runs it small",
    (
        "docs/FREEZING.md",
        "bash",
        "benchmark.py signals",
    ): "takes minutes; tests/scripts runs it small",
    (
        "docs/FREEZING.md",
        "bash",
        "benchmark.py probe",
    ): "takes minutes; tests/scripts runs it small",
    (
        "docs/FREEZING.md",
        "bash",
        "benchmark.py race",
    ): "takes an hour; tests/scripts runs it small",
    ("docs/FREEZING.md", "bash", "--output rules.json"): "takes minutes; tests/recommendation runs it on few rows",
    (
        "docs/PERFORMANCE.md",
        "bash",
        "benchmark.py speed",
    ): "takes an hour; tests/scripts runs each part",
    (
        "docs/PERFORMANCE.md",
        "bash",
        "benchmark.py compile",
    ): "takes minutes; tests/scripts runs it small",
    (
        "docs/PERFORMANCE.md",
        "bash",
        "benchmark.py inference",
    ): "takes minutes; tests/scripts runs it small",
    (
        "docs/RESULTS.md",
        "bash",
        "benchmark.py distill",
    ): "takes minutes; tests/scripts runs it small",
    (
        "docs/PERFORMANCE.md",
        "bash",
        "benchmark.py accelerator",
    ): "is meant for a GPU; tests/scripts runs it small",
    (
        "docs/PERFORMANCE.md",
        "bash",
        "benchmark.py packing",
    ): "takes minutes; tests/scripts runs it small",
    (
        "docs/PERFORMANCE.md",
        "bash",
        "benchmark.py growth",
    ): "takes minutes; tests/scripts runs it small",
}


@pytest.fixture(scope="module", autouse=True)
def claims():
    """Import all test modules that claim blocks, whichever of them this run has collected."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        if re.search(r"^from tests\.documents\.blocks import .*\bclaim\b", path.read_text(encoding="utf-8"), re.M):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_block_is_run_or_listed(document):
    listed = [find_block(*where) for where in NOT_RUN if where[0] == document]
    left = [block for block in read_blocks(document) if not is_claimed(block) and block not in listed]
    assert not left, "claim these in a test that runs them, or list them in NOT_RUN: " + ", ".join(map(str, left))


def test_no_block_that_is_run_is_listed_as_not_run():
    assert not [where for where in NOT_RUN if is_claimed(find_block(*where))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_fence_is_seen(document):
    """A block whose language is misspelt, or left out, would be neither run nor missed."""
    fences = re.findall(r"^ *```(.*)$", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert fences[1::2] == [""] * (len(fences) // 2)
    assert set(fences[::2]) <= {*LANGUAGES, "text"}
    assert len(read_blocks(document)) == len(fences[::2]) - fences.count("text")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document):
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    assert not [target for target in targets if not (ROOT / document).parent.joinpath(target).exists()]
