"""Public names are documented, parameter by parameter, and the site contains them."""

import dataclasses
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module

import docstring_parser
import pytest

import hf_multitask
from tests.documents.blocks import ROOT

# `hf-multitask COMMAND --help` documents the commands.
LEFT_OUT = ("cli",)


def public_objects():
    """Return the objects of each module's ``__all__``, by module and name."""
    packages = [
        f"hf_multitask.{module.name}" for module in pkgutil.iter_modules(hf_multitask.__path__) if module.ispkg
    ]
    names = ["hf_multitask", *(name for name in packages if name.rpartition(".")[2] not in LEFT_OUT)]
    modules = [import_module(name) for name in names]
    return {
        module.__name__: {name: getattr(module, name) for name in module.__all__}
        for module in modules
        if getattr(module, "__all__", ())
    }


def is_ours(thing):
    return thing.__module__.partition(".")[0] == "hf_multitask"


def parameters(thing):
    """Return the names of what a class or function takes, but for those that a class leaves to its base."""
    if dataclasses.is_dataclass(thing):
        inherited = {name for base in thing.__mro__[1:] for name in getattr(base, "__dataclass_fields__", ())}
        own = inspect.get_annotations(thing).keys() - inherited
        return {field.name for field in dataclasses.fields(thing) if field.name in own}
    call = thing.__init__ if inspect.isclass(thing) else thing
    return set(inspect.signature(call).parameters) - {"self", "cls"} if is_ours(call) else set()


def described(thing):
    """Return the names in the Args section of a docstring, None where it has none."""
    parsed = docstring_parser.parse(thing.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
    return {parameter.arg_name for parameter in parsed.params} or None


def methods(thing):
    functions = (getattr(value, "__func__", value) for value in vars(thing).values())
    return [function for function in functions if inspect.isfunction(function) and is_ours(function)]


# Ruff's D417 misses a docstring without Args, names that are not arguments, and all classes.
def test_each_public_name_describes_exactly_what_it_takes():
    wrong = {}
    for module, members in public_objects().items():
        for name, thing in members.items():
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            if not thing.__doc__ or (described(thing) or set()) != parameters(thing):
                wrong[f"{module}.{name}"] = (described(thing) or set()) ^ parameters(thing)
            for method in methods(thing) if inspect.isclass(thing) else ():
                if described(method) not in (None, parameters(method)):
                    wrong[f"{module}.{name}.{method.__name__}"] = described(method) ^ parameters(method)
    assert not wrong


@pytest.mark.slow
def test_the_site_has_each_public_name(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    done = subprocess.run([*command, "docs", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    reference = "".join(text for path, text in pages.items() if path.parent.name == "reference")
    ids = set(re.findall(r'id="hf_multitask[.\w]*"', reference))
    for module, members in public_objects().items():
        # The rooms' pages leave out what the first page of the reference has.
        missing = [
            name
            for name, thing in members.items()
            if (inspect.isclass(thing) or inspect.isfunction(thing))
            and not {f'id="{place}.{name}"' for place in (module, "hf_multitask")} & ids
        ]
        assert not missing, module
    # Nothing is loaded from elsewhere.
    assert not [path for path, text in pages.items() if re.search(r'(?:src|stylesheet" href)="https?://', text)]
