"""What is public is documented, parameter by parameter, and the reference holds it."""

import dataclasses
import inspect

import docstring_parser
import pytest

from tests.documents.blocks import ROOT


@pytest.fixture
def api_docs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import api_docs

    return api_docs


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


# Ruff's D417 misses a docstring without Args, arguments that are none, and all classes.
def test_each_public_name_describes_exactly_what_it_takes(api_docs):
    wrong = {}
    for module, members in api_docs.public_objects().items():
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
def test_the_reference_has_each_public_name(api_docs, tmp_path, capsys):
    assert api_docs.main([str(tmp_path)]) == 0
    assert "index.html" in capsys.readouterr().out
    for module, members in api_docs.public_objects().items():
        page = tmp_path.joinpath(*module.split(".")).with_suffix(".html").read_text(encoding="utf-8")
        missing = [
            name
            for name, thing in members.items()
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and f'id="{name}"' not in page
        ]
        assert not missing, module
    page = (tmp_path / "hf_multitask.html").read_text(encoding="utf-8")
    assert "transformers.Trainer" in page
    assert "What trains when; what" in page  # of MultiTaskTrainer's arguments
