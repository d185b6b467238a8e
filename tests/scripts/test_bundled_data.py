"""Bundled sentences: balanced, consistent, and not solvable by memorizing."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hf_multitask.models.tags_iob2 import is_tag, tag_spans
from hf_multitask.quickstart import QUICKSTART_CONFIG

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "validation", "test")
TYPES = ("PERSON", "ORG", "LOC", "PRODUCT", "DATE")


@pytest.fixture(scope="module")
def splits():
    folder = QUICKSTART_CONFIG.parent / "data"
    return {
        split: [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        for split in SPLITS
    }


def names(rows):
    return {
        (span.label, " ".join(row["tokens"][span.start : span.end]).lower())
        for row in rows
        for span in tag_spans(row["ner_tags"])
    }


def delexicalized(row):
    words = list(row["tokens"])
    for span in reversed(tag_spans(row["ner_tags"])):
        words[span.start : span.end] = [f"<{span.label}>"]
    return " ".join(words).lower()


def share_unseen(items, train):
    return len(items - train) / len(items)


def test_sizes_topics_and_tags(splits):
    assert [len(splits[split]) for split in SPLITS] == [1500, 300, 300]
    for rows in splits.values():
        topics = Counter(row["topic"] for row in rows)
        assert set(topics) == {"Technology", "Weather", "Other"}
        assert min(topics.values()) >= 0.3 * len(rows)
        tags = {tag for row in rows for tag in row["ner_tags"]}
        assert tags == {"O"} | {f"{prefix}-{kind}" for prefix in "BI" for kind in TYPES}


def test_rows_are_consistent(splits):
    for row in (row for rows in splits.values() for row in rows):
        assert len(row["tokens"]) == len(row["ner_tags"]) > 0
        assert all(is_tag(tag) for tag in row["ner_tags"])
        assert "".join(row["tokens"]) == "".join(row["text"].split())
        for before, tag in zip(["O", *row["ner_tags"]], row["ner_tags"], strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_no_sentence_is_repeated(splits):
    sentences = [row["text"].lower() for rows in splits.values() for row in rows]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_at_least_half_of_names_and_templates_never_occur_in_train(split, splits):
    train, rows = splits["train"], splits[split]
    assert share_unseen(names(rows), names(train)) >= 0.5
    assert share_unseen({row["template"] for row in rows}, {row["template"] for row in train}) >= 0.5
    assert share_unseen({delexicalized(row) for row in rows}, {delexicalized(row) for row in train}) >= 0.5


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("word", ["apple", "amazon", "paris", "jordan", "georgia", "may", "mercury"])
def test_ambiguous_words_occur_in_several_roles(word, split, splits):
    roles = Counter()
    for row in splits[split]:
        for token, tag in zip(row["tokens"], row["ner_tags"], strict=True):
            if token.lower() in (word, f"{word}s"):
                roles[tag[2:] or "O"] += 1
    assert len(roles) >= 2, roles


def test_the_script_writes_the_shipped_files(tmp_path):
    script = ROOT / "scripts" / "make_bundled_data.py"
    subprocess.run([sys.executable, script, "--output-dir", tmp_path], check=True, capture_output=True)
    for split in SPLITS:
        shipped = QUICKSTART_CONFIG.parent / "data" / f"{split}.jsonl"
        assert (tmp_path / f"{split}.jsonl").read_bytes() == shipped.read_bytes()
