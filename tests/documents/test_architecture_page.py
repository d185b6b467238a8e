"""docs/ARCHITECTURE.md lists each private name of other libraries that the package overrides or uses."""

import ast
import importlib
import inspect
import pkgutil
import re
from importlib.metadata import version

import pytest
from accelerate.state import PartialState
from datasets import Dataset
from evaluate import Metric
from torch import nn
from transformers import (
    Pipeline,
    PreTrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback, TrackioCallback

import hf_multitask
from hf_multitask import MultiTaskTrainer
from hf_multitask.runtime.extras import missing_packages
from tests.documents.blocks import ROOT

PAGE = "docs/ARCHITECTURE.md"
OWNERS = {
    owner.__name__: owner
    for owner in (
        Dataset,
        Metric,
        PartialState,
        Pipeline,
        PreTrainedConfig,
        PreTrainedModel,
        TensorBoardCallback,
        TrackioCallback,
        Trainer,
        TrainingArguments,
    )
} | {"Module": nn.Module}
# Signature of each private method when it was last read. Attributes have none.
SIGNATURES = {
    "Trainer._prepare_inputs": "(self, inputs)",
    "Trainer._get_dataloader": (
        "(self, dataset, description, batch_size, sampler_fn=None, is_training=False, dataloader_key=None)"
    ),
    "Trainer._save_checkpoint": "(self, model, trial)",
    "Trainer._save_rng_state": "(self, output_dir)",
    "Trainer._load_from_checkpoint": "(self, resume_from_checkpoint, model=None)",
    "Trainer._load_best_model": "(self)",
    "Trainer._hp_search_setup": "(self, trial)",
    "Trainer._get_output_dir": "(self, trial)",
    "Trainer._clip_grad_norm": "(self, model)",
    "PreTrainedModel._init_weights": "(self, module)",
    "PreTrainedModel._upload_modified_files": (
        "(self, working_dir, repo_id, files_timestamps, commit_message=None, token=None, create_pr=False, "
        "revision=None, commit_description=None)"
    ),
    "Pipeline._sanitize_parameters": "(self, **pipeline_parameters)",
    "Pipeline._forward": "(self, input_tensors, **forward_parameters)",
    "Metric._info": "(self)",
    "Metric._compute": "(self, *, predictions=None, references=None, **kwargs)",
    "PartialState._reset_state": "()",
    "TensorBoardCallback._init_summary_writer": "(self, args)",
}
# Of the standard library, where a leading underscore does not mean private, or set by its machinery.
NOT_PRIVATE = {"_asdict", "_fields", "_replace", "_exit", "_abc_impl", "_is_protocol", "_auto_class"}


def modules():
    """Import the modules of the package. Those of the app need Gradio, which not every environment has."""
    left_out = ("hf_multitask.__main__",) + (("hf_multitask.app",) if missing_packages("app") else ())
    names = [module.name for module in pkgutil.walk_packages(hf_multitask.__path__, "hf_multitask.")]
    return [importlib.import_module(name) for name in names if not name.startswith(left_out)]


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in NOT_PRIVATE


def overridden_names():
    """Return the private names of other libraries' classes that classes of the package define again."""
    found = set()
    for module in modules():
        for thing in vars(module).values():
            if inspect.isclass(thing) and thing.__module__ == module.__name__:
                bases = [base for base in thing.__mro__[1:] if not base.__module__.startswith("hf_multitask")]
                found |= {
                    name for name in vars(thing) if is_private(name) and any(name in vars(base) for base in bases)
                }
    return found


def used_names(folder=ROOT / "hf_multitask"):
    """Return the private attributes that the modules of a folder read or call and do not define."""
    nodes = [node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    # What the Trainer has is its own, also where its subclass sets it.
    inherited = set(re.findall(r"\bself\.(_\w+)", inspect.getsource(Trainer)))
    defined |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and node.attr not in inherited
    }
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and is_private(node.attr)} - defined


def listed_names():
    """Return the names in the page's table, such as ``Trainer._prepare_inputs``."""
    page = (ROOT / PAGE).read_text(encoding="utf-8").partition("## Private API of other libraries")[2]
    rows = [line.split("|")[1] for line in page.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+\._\w+)`", row)]


def find_changes(owner, name):
    """Return how a private name of the installed libraries differs from what the package was written for."""
    if name not in vars(owner) and not any(name in vars(base) for base in owner.__mro__):
        # An attribute that instances get.
        sources = [inspect.getsource(base) for base in owner.__mro__ if base is not object]
        return None if any(re.search(rf"\b{name}\b", source) for source in sources) else "is gone"
    member = inspect.getattr_static(owner, name)
    if not callable(getattr(member, "__func__", member)):
        return None
    found = signature_of(getattr(member, "__func__", member))
    expected = SIGNATURES[f"{owner.__name__}.{name}"]
    return None if found == expected else f"takes {found}, no longer {expected}"


def signature_of(function):
    """Return a signature without its annotations."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def find_unlisted():
    """Return what the page does not list and should, and what it lists and should not."""
    listed = {name.partition(".")[2] for name in listed_names()}
    found = overridden_names() | used_names()
    return {"in the code, not on the page": found - listed, "on the page, not in the code": listed - found}


def test_each_private_name_is_listed_with_its_reason():
    unlisted = {where: names for where, names in find_unlisted().items() if names}
    assert not unlisted, f"list each private name of another library in {PAGE} with its reason"


def test_a_new_override_that_is_not_listed_is_found(monkeypatch):
    monkeypatch.setattr(MultiTaskTrainer, "_wrap_model", lambda self, model: model, raising=False)
    assert find_unlisted()["in the code, not on the page"] == {"_wrap_model"}


def test_a_listed_override_that_is_removed_is_found(monkeypatch):
    monkeypatch.delattr(MultiTaskTrainer, "_clip_grad_norm")
    assert find_unlisted()["on the page, not in the code"] == {"_clip_grad_norm"}


def test_a_new_use_of_a_private_name_is_found(tmp_path):
    (tmp_path / "module.py").write_text("def wrap(trainer, model):\n    return trainer._wrap_model(model)\n")
    assert used_names(tmp_path) == {"_wrap_model"}


def test_a_release_that_renames_an_overridden_method_is_found(monkeypatch):
    source = inspect.getsource(Trainer).replace("_save_rng_state", "_save_random_state")
    monkeypatch.delattr(Trainer, "_save_rng_state")
    monkeypatch.setattr(inspect, "getsource", lambda owner: source)
    assert find_changes(Trainer, "_save_rng_state") == "is gone"
    assert find_unlisted()["on the page, not in the code"] == {"_save_rng_state"}


def test_each_listed_name_is_as_it_was():
    changes = {
        name: change
        for name in listed_names()
        if (change := find_changes(OWNERS[name.partition(".")[0]], name.partition(".")[2]))
    }
    libraries = ", ".join(f"{name} {version(name)}" for name in ("transformers", "accelerate", "datasets", "torch"))
    assert not changes, f"private names have changed in {libraries}; see {PAGE}"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (
            "def _prepare_inputs(self, inputs, device): ...",
            r"takes \(self, inputs, device\), no longer \(self, inputs\)",
        ),
        ("def _prepare_inputs(self, inputs=None): ...", r"takes \(self, inputs=None\), no longer \(self, inputs\)"),
        ("def prepare_inputs(self, inputs): ...", "is gone"),
    ],
)
def test_a_method_that_a_release_changes_or_removes_is_found(code, change):
    names = {}
    exec(code, names)
    function = next(value for name, value in names.items() if name.endswith("prepare_inputs"))
    release = type("Trainer", (), {function.__name__: function, "__module__": __name__})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "getsource", lambda _: code)
        assert re.match(change, find_changes(release, "_prepare_inputs"))
