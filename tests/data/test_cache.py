"""Cache of tokenized rows: later runs use it only if nothing that the rows depend on has changed."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from hf_multitask import TaskConfig, prepare_datasets
from hf_multitask.models.text_alignment import Aligner
from tests.tiny import ROWS, SPECIAL

ROOT = Path(__file__).parents[2]
LABELS = sorted({row["intent"] for row in ROWS})
TAGS = ["O", "B-place", "I-place"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Return the folder of the cache, which is empty."""
    folder = tmp_path / "cache"
    # When `datasets` starts processes, it replaces `os.environ` by a copy; changes to the copy would have no effect.
    monkeypatch.setattr(os, "environ", os.environ)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.fixture
def aligned(monkeypatch):
    """Return the sizes of the batches that are aligned in this process and not loaded from the cache."""
    align, sizes = Aligner.__call__, []

    def counted(self, batch):
        sizes.append(len(batch["words"]))
        return align(self, batch)

    monkeypatch.setattr(Aligner, "__call__", counted)
    return sizes


def files(cache):
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.arrow")}


def prepare(tokenizer, rows=ROWS, intent=None, slots=None, **options):
    tasks = [
        TaskConfig("intent", "sequence_classification", **intent or {}),
        TaskConfig("slots", "token_classification", **slots or {}),
    ]
    return prepare_datasets({"train": rows}, tokenizer, tasks, **options)


def start(name, encoder, cache, processes=1):
    """Start `cache_program` with a different hash seed in each process."""
    folder = cache.parent / "aligning"
    folder.mkdir(exist_ok=True)
    given = json.dumps({"encoder": str(encoder), "folder": str(folder), "processes": processes})
    own = {"PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(cache), "PYTHONHASHSEED": str(len(name) + processes)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.data.cache_program", given, name], cwd=ROOT, env={**os.environ, **own}
    )


def result(name, process, cache):
    assert process.wait(timeout=300) == 0
    return json.loads((cache.parent / f"{name}.json").read_text())


@pytest.mark.slow
def test_another_process_loads_the_rows_from_the_cache(tokenizer, encoder, cache):
    data = prepare(tokenizer)
    before = files(cache)
    assert len(before) == 1
    other = result("other", start("other", encoder, cache), cache)
    assert other == {"rows": data["train"].to_list(), "fingerprint": data["train"]._fingerprint, "aligned": []}
    assert files(cache) == before


@pytest.mark.slow
def test_processes_that_align_at_the_same_time_do_not_interfere(tokenizer, encoder, cache, aligned):
    processes = {name: start(name, encoder, cache, processes=2) for name in ("one", "other")}
    results = [result(name, process, cache) for name, process in processes.items()]
    assert [one["aligned"] for one in results] == [[len(ROWS)]] * 2
    assert len(files(cache)) == 1
    data = prepare(tokenizer)
    assert not aligned
    for one in results:
        assert one["rows"] == data["train"].to_list()
        assert one["fingerprint"] == data["train"]._fingerprint


def test_the_cache_does_not_depend_on_earlier_calls_of_the_tokenizer(tokenizer, aligned):
    first = prepare(tokenizer)
    tokenizer(["some text", "more of it"], padding="max_length", truncation=True, max_length=7)
    assert prepare(tokenizer)["train"].to_list() == first["train"].to_list()
    assert aligned == [len(ROWS)]


def changed_tokenizer(tokenizer, change):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    change(state)
    backend = Tokenizer.from_str(json.dumps(state))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=48, **SPECIAL)


def other_vocabulary(tokenizer):
    def swap(state):
        vocabulary = state["model"]["vocab"]
        vocabulary["play"], vocabulary["what"] = vocabulary["what"], vocabulary["play"]

    return changed_tokenizer(tokenizer, swap)


def added_token(tokenizer):
    tokenizer.add_tokens(["ondo"])
    return tokenizer


def other_normalizer(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("a", "e")
    return tokenizer


def other_template(tokenizer):
    def without_first(state):
        del state["post_processor"]["single"][0]

    return changed_tokenizer(tokenizer, without_first)


def other_inputs(tokenizer):
    tokenizer.model_input_names = ["input_ids"]
    return tokenizer


def other_rows(column, value):
    rows = copy.deepcopy(ROWS)
    rows[0][column] = value
    return {"rows": rows}


CUT = {"max_length": 6, "truncate": True}
WINDOWS = {"max_length": 6, "overlap": 1}
# Words have the same ids with either label set, but all subwords after the first of a word do not.
ONE_TAG = {"rows": [{**row, "slots": ["B-place"] * len(row["tokens"])} for row in ROWS], "label_subwords": "all"}
TAGS_BY_TYPE = {"labels": ["O", "B-place", "I-place", "B-time", "I-time"]}
TAGS_BY_PREFIX = {"labels": ["O", "B-place", "B-time", "I-place", "I-time"]}


def check_is_aligned_again(cache, aligned, before, after):
    """Prepare in two ways, and check that the second is aligned, as it is without a cache, and not loaded."""
    first, written = before(), files(cache)
    second = after()
    assert aligned == [len(ROWS)] * 2
    assert len(files(cache)) == 2
    assert files(cache).items() >= written.items()
    assert second["train"].to_list() != first["train"].to_list()
    assert before()["train"].to_list() == first["train"].to_list()
    assert after()["train"].to_list() == second["train"].to_list()
    assert aligned == [len(ROWS)] * 2
    datasets.disable_caching()
    try:
        assert after()["train"].to_list() == second["train"].to_list()
    finally:
        datasets.enable_caching()


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (other_vocabulary, {}),
        (added_token, {}),
        (other_normalizer, {}),
        (other_template, {}),
        (other_inputs, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_another_tokenizer_aligns_the_rows_again(change, options, tokenizer, cache, aligned):
    other = change(copy.deepcopy(tokenizer))
    check_is_aligned_again(cache, aligned, lambda: prepare(tokenizer, **options), lambda: prepare(other, **options))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"max_length": 6}),
        (WINDOWS, {**WINDOWS, "overlap": 2}),
        (WINDOWS, CUT),
        ({}, {"label_subwords": "all"}),
        ({}, {"label_subwords": "last"}),
        ({"intent": {"labels": LABELS}}, {"intent": {"labels": LABELS[::-1]}}),
        ({"slots": {"labels": TAGS}}, {"slots": {"labels": [TAGS[0], *TAGS[:0:-1]]}}),
        ({**ONE_TAG, "slots": TAGS_BY_TYPE}, {**ONE_TAG, "slots": TAGS_BY_PREFIX}),
        ({}, {"slots": {"tag_scheme": "raw"}}),
        ({}, other_rows("tokens", ["pay", *ROWS[0]["tokens"][1:]])),
        ({}, other_rows("tokens", ["".join(ROWS[0]["tokens"]), *ROWS[0]["tokens"][1:]])),
        ({}, other_rows("text_pair", "in paris")),
        (other_rows("text_pair", "in paris"), other_rows("text_pair", "in london")),
        ({}, other_rows("intent", "GetWeather")),
        ({}, other_rows("slots", ["B-place"] * len(ROWS[0]["tokens"]))),
        ({}, {"rows": ROWS[::-1]}),
    ],
    ids=lambda value: "-".join(value) or "plain",
)
def test_other_settings_labels_or_rows_are_aligned_again(before, after, tokenizer, cache, aligned):
    check_is_aligned_again(cache, aligned, lambda: prepare(tokenizer, **before), lambda: prepare(tokenizer, **after))


@pytest.mark.parametrize("options", [CUT, WINDOWS, {"label_subwords": "all"}], ids=str)
def test_the_counts_from_the_cache_equal_the_first_counts(options, tokenizer, aligned):
    rows = [*ROWS, {"tokens": ["\u200b"], "slots": ["I-place"]}]
    first = prepare(tokenizer, rows, **options)
    again = prepare(tokenizer, rows, **options)
    assert aligned == [len(rows)]
    assert again.reports == first.reports
    assert again.tasks == first.tasks
    report = first.reports["train"]
    assert (report.rows, report.empty_rows, report.broken_tags["slots"], report.unlabelled_rows["intent"]) == (
        len(rows),
        1,
        1,
        1,
    )


@pytest.mark.parametrize(("first", "then"), [(None, 2), (2, None), (2, 2), (2, 3)])
def test_several_processes_make_the_same_rows_and_share_the_cache(first, then, tokenizer, cache, aligned):
    datasets.disable_caching()
    try:
        expected = prepare(tokenizer)
    finally:
        datasets.enable_caching()
    aligned.clear()
    one = prepare(tokenizer, num_proc=first)
    written = files(cache)
    assert len(written) == (first or 1)
    other = prepare(tokenizer, num_proc=then)
    assert files(cache) == written
    assert aligned == ([] if first else [len(ROWS)])
    assert one["train"].to_list() == other["train"].to_list() == expected["train"].to_list()
    assert one["train"]._fingerprint == other["train"]._fingerprint
    assert one.reports == other.reports == expected.reports


@pytest.mark.parametrize("num_proc", [None, 2])
def test_without_caching_no_file_is_left(num_proc, tokenizer, cache, aligned):
    datasets.disable_caching()
    try:
        first, second = prepare(tokenizer, num_proc=num_proc), prepare(tokenizer, num_proc=num_proc)
    finally:
        datasets.enable_caching()
    assert first["train"].to_list() == second["train"].to_list()
    assert aligned == ([] if num_proc else [len(ROWS)] * 2)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def replace(path):
    (other,) = [found for found in path.parent.glob("*.arrow") if found != path]
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(("damage", "found"), [(flip, "has changed"), (cut, "bytes, found"), (replace, "has changed")])
def test_damaged_rows_are_named_and_aligned_again(damage, found, tokenizer, cache, aligned, caplog):
    first = prepare(tokenizer)["train"].to_list()  # the dataset itself is mapped from the file
    (path,) = files(cache)
    prepare(tokenizer, ROWS[::-1])
    content = path.read_bytes()
    damage(path)
    aligned.clear()
    caplog.clear()
    assert prepare(tokenizer)["train"].to_list() == first
    assert f"{path}: the cached rows are damaged: " in caplog.text
    assert found in caplog.text
    assert aligned == [len(ROWS)]
    assert path.read_bytes() == content
    caplog.clear()
    prepare(tokenizer)
    assert aligned == [len(ROWS)]
    assert "damaged" not in caplog.text


def test_a_damaged_file_of_several_processes_is_found(tokenizer, cache, caplog):
    first = prepare(tokenizer, num_proc=2)["train"].to_list()
    flip(sorted(files(cache))[1])
    assert prepare(tokenizer, num_proc=2)["train"].to_list() == first
    assert "00001_of_00002.arrow: the cached rows are damaged" in caplog.text


def test_rows_without_checksums_are_aligned_again(tokenizer, cache, aligned, caplog):
    prepare(tokenizer)
    for path in cache.rglob("*.checksums.json"):
        path.unlink()
    prepare(tokenizer)
    prepare(tokenizer)
    assert aligned == [len(ROWS)] * 2
    assert "damaged" not in caplog.text
