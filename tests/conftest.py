"""Fixtures: tokenizers trained on a few sentences, tiny random encoders, a real one."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tiny models are faster on one thread, and several processes do not compete for cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# On some processors MKL rounds by where arrays lie in memory. Tests compare the bits of equal computations.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

import gc
import json
import logging
import tempfile
from pathlib import Path
from unittest import mock

# No test reads the cache of another run.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="hf_multitask_tests_")

import datasets
import pytest
import torch
import transformers
from hypothesis import HealthCheck, settings

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer, prepare_datasets
from tests.tiny import ARCHITECTURES, ROWS, save_tiny_encoder

datasets.disable_progress_bars()
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("repeatable")

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def pytest_configure(config):
    """Hide the GPU from all tests but those for it: what the others state is what the CPU computes."""
    if not config.getoption("markexpr").startswith("gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True, scope="module")
def exempt_from_collection():
    """Exempt what imports and earlier modules have left from garbage collection.

    The trainer collects garbage in each training. If that visits all objects of the libraries, it takes longer than
    the training of a tiny model.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def settings_of_the_process():
    """Restore process-wide settings, so that no test depends on earlier ones."""
    threads = torch.get_num_threads()
    verbosity, loads_with_bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    package = logging.getLogger("hf_multitask")
    level, handlers = package.level, package.handlers.copy()
    with mock.patch.dict(os.environ):
        yield
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity(verbosity)
    (transformers.logging.enable_progress_bar if loads_with_bars else transformers.logging.disable_progress_bar)()
    datasets.disable_progress_bars()
    package.setLevel(level)
    package.handlers[:] = handlers


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """Return the folder of a tiny random encoder with its tokenizer, by architecture."""
    folder = tmp_path_factory.mktemp("encoders")
    return {name: save_tiny_encoder(name, folder / name) for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def encoder(encoders):
    return encoders["bert"]


@pytest.fixture
def tasks():
    return [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]


@pytest.fixture
def tokenizer(encoder):
    return load_tokenizer(encoder)


@pytest.fixture
def data(tokenizer, tasks):
    return prepare_datasets({"train": ROWS, "validation": ROWS[:10], "test": ROWS[10:]}, tokenizer, tasks)


@pytest.fixture
def model(encoder, data):
    return MultiTaskModel.from_encoder(encoder, data.tasks)


@pytest.fixture(scope="session")
def write_jsonl(tmp_path_factory):
    """Return a function that writes rows to a new JSONL file."""

    def write(rows, path: Path | None = None) -> Path:
        path = path or tmp_path_factory.mktemp("rows") / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def real_data():
    """Return the folder of the public datasets."""
    folder = Path(os.environ.get("HF_MULTITASK_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the public datasets are not at {folder}; set HF_MULTITASK_DATA")
    return folder


@pytest.fixture
def benchmark(monkeypatch):
    """Return the main function of scripts/benchmark.py."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    import benchmark

    return benchmark.main
