"""Values of YAML and JSON files: what no config can mean is refused, at once and with its place."""

import time

import pytest

from hf_multitask.runtime.plain_values import load_json, load_yaml

LETTERS = "bcdefghij"
DOUBLING = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("a" + LETTERS, LETTERS, strict=False)
)
MERGING = "a: &a {k: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n"
    for old, new in zip("a" + LETTERS, LETTERS, strict=False)
)


def test_plain_values_are_read():
    text = "a: [1, 2.5, x, true, null]\nb: &b {c: '2020-01-01'}\nd: *b\n"
    assert load_yaml(text) == {"a": [1, 2.5, "x", True, None], "b": {"c": "2020-01-01"}, "d": {"c": "2020-01-01"}}
    assert load_yaml("") is None
    assert load_json('{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {b: [2020-01-01]}", r"a.b\[0\]: expected a string, .* found the date 2020-01-01; put it in quotes"),
        ("a: 2020-13-45", "put it in quotes. month must be in"),
        ("a: !!binary aGVsbG8=", "a: expected a string, .* found bytes b'hello'"),
        ("a: !!set {x}", "a: expected a string, .* found {'x'}"),
        ("a: !!timestamp x", "cannot be read as what it looks like"),
        ("a: !!int ''", "cannot be read as what it looks like"),
        ("a: !!bool maybe", "cannot be read as what it looks like"),
        ("a: !!python/object:x.y z", "expected YAML"),
        ("a: 1.0e+400", "a: expected a finite number, found inf"),
        ("a: .nan", "a: expected a finite number, found nan"),
        (f"a: {'1' * 5000}", "cannot be read as what it looks like"),
        (f"a: {'1' * 30}", "a: expected a number below"),
        ("no: 1", "expected strings as keys, found false; put the key in quotes"),
        ("a: {1: x}", "a: expected strings as keys, found 1"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is there twice"),
        ("&a [*a]", "stands for the value itself"),
        ("[" * 1500 + "]" * 1500, "line 1: expected at most 50 nested levels"),
        ("{a: " * 1500, "line 1: expected at most 50 nested levels"),
        ("- " * 1500, "line 1: expected at most 50 nested levels"),
        (DOUBLING, "expected aliases for at most 100,000 values"),
        (MERGING, "expected aliases for at most 100,000 values"),
        ("a: \0", "expected YAML"),
        ("a: [", "expected YAML"),
    ],
    ids=range(23),
)
def test_what_no_config_can_mean_is_refused_at_once(text, message):
    start = time.process_time()
    with pytest.raises(ValueError, match=message) as error:
        load_yaml(text)
    assert "\n" not in str(error.value)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "expected at most 50 nested levels"),
        ("[" * 60 + "]" * 60, "expected at most 50 nested levels"),
        ('{"a": NaN}', "a: expected a finite number, found nan"),
        ('{"a": 1e400}', "a: expected a finite number, found inf"),
    ],
)
def test_json_has_the_same_limits(text, message):
    with pytest.raises(ValueError, match=message):
        load_json(text)
