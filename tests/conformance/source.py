"""The tests of transformers, from its source distribution."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import transformers

FOLDER = Path(__file__).parents[2] / "build" / "conformance" / f"transformers-{transformers.__version__}" / "tests"
PACKAGE = "transformers_tests"
# Modules that the common tests import and the source distribution does not contain: the tests of models that generate
# text, of other exporters, and values for configs without another config inside.
ABSENT = {
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "utils.test_configuration_utils": {"config_common_kwargs": {}},
}


def load_source(name: str) -> ModuleType:
    """Import a module of the tests of transformers; skip the tests of the caller if it is not there."""
    if not FOLDER.is_dir():
        reason = f"the tests of transformers {transformers.__version__} are not in {FOLDER}; make test-conformance"
        pytest.skip(reason, allow_module_level=True)
    pytest.importorskip("parameterized", reason="the tests of transformers need it; make test-conformance")
    # Read when transformers.testing_utils is imported; otherwise tests that transformers marks as slow are left out.
    os.environ["RUN_SLOW"] = "1"
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = _package(PACKAGE, FOLDER)
        for absent, values in ABSENT.items():
            parent = absent.split(".")[0]
            sys.modules[f"{PACKAGE}.{parent}"] = _package(f"{PACKAGE}.{parent}", FOLDER / parent)
            sys.modules[f"{PACKAGE}.{absent}"] = module = ModuleType(f"{PACKAGE}.{absent}")
            vars(module).update(values)
    return importlib.import_module(f"{PACKAGE}.{name}")


def _package(name: str, folder: Path) -> ModuleType:
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    return package
