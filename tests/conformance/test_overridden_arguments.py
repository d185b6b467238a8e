"""Methods that the package overrides take the arguments of transformers by their names and positions."""

import importlib
import inspect
import pkgutil
from inspect import Parameter

import pytest

import hf_multitask

# Other arguments on purpose. Unknown options of a pipeline raise, so that no misspelt one is ignored.
OTHER_ARGUMENTS = ("MultiTaskPipeline.__call__",)
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def own_classes():
    """Return the classes of the package that derive from those of other libraries."""
    for module in pkgutil.walk_packages(hf_multitask.__path__, "hf_multitask."):
        if module.name.split(".")[1] in ("app", "__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name:
                yield value


def overridden_methods():
    """Return each method with the one that it overrides; not the constructors, which have arguments of their own."""
    for owner in own_classes():
        others = [base for base in owner.__mro__[1:] if base.__module__.startswith(("transformers", "evaluate"))]
        for name, method in vars(owner).items():
            original = next((vars(base)[name] for base in others if name in vars(base)), None)
            place = f"{owner.__name__}.{name}"
            if original is None or name == "__init__" or place in OTHER_ARGUMENTS:
                continue
            if callable(getattr(owner, name)):
                yield pytest.param(method, original, id=place)


def parameters_of(method):
    return list(inspect.signature(getattr(method, "__func__", method)).parameters.values())


@pytest.mark.parametrize(("method", "original"), overridden_methods())
def test_arguments_are_those_of_the_original(method, original):
    own, expected = parameters_of(method), parameters_of(original)
    kinds = {parameter.kind for parameter in own}
    positions = [parameter.name for parameter in own if parameter.kind in POSITIONAL]
    names = {parameter.name for parameter in own}
    for index, parameter in enumerate(expected):
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            assert parameter.kind in kinds or parameter.kind is Parameter.VAR_KEYWORD
        elif parameter.kind in POSITIONAL and index < len(positions):
            assert positions[index] == parameter.name
        else:
            assert parameter.name in names or Parameter.VAR_KEYWORD in kinds
            assert parameter.kind not in POSITIONAL or Parameter.VAR_POSITIONAL in kinds
