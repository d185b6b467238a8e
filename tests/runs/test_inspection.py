"""Counts of `inspect`, compared with counts by hand."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import matplotlib.image
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_multitask import RunConfig
from hf_multitask.data import Rows
from hf_multitask.data.inspection.duplicates import Duplicates, RowKeys
from hf_multitask.data.inspection.lengths import Lengths
from hf_multitask.reports.data_figures import MAX_LABELS, save_data_figure
from hf_multitask.runs.inspection import inspect_data
from tests.data.reading import read_rows
from tests.tiny import SPECIAL, save_tiny_encoder

WORDS = ["play", "##ing", "song", "in", "paris", "rain", "##y", "new", "york", "a"]
TRAIN = [
    {"tokens": ["play", "song"], "intent": "music", "ner": ["O", "O"]},
    {"tokens": ["playing", "in", "paris"], "intent": "music", "ner": ["O", "O", "B-city"]},
    {"tokens": ["rainy", "in", "new", "york"], "intent": "weather", "ner": ["O", "O", "B-city", "I-city"]},
    {"tokens": ["play", "song"], "intent": "weather", "ner": ["O", "O"]},
    {"tokens": ["rain", "zzz"], "intent": None, "ner": ["O", "O"]},
]
VALIDATION = [
    {"tokens": ["play", "song"], "intent": "music", "ner": ["O", "O"]},
    {"tokens": ["a", "song"], "intent": "news", "ner": ["O", "O"]},
]
TEST = [
    {"tokens": ["rain", "in", "paris"], "intent": "weather", "ner": ["O", "O", "B-state"]},
    {"tokens": ["playing", "in", "paris"], "intent": "music", "ner": ["O", "O", "B-city"]},
    {"tokens": ["a", "song"], "intent": "weather", "ner": ["O", "O"]},
    {"tokens": ["rain", "zzz"], "intent": "weather", "ner": ["O", "O"]},
]
TASKS = [{"name": "intent", "type": "sequence_classification"}, {"name": "ner", "type": "token_classification"}]


@pytest.fixture(scope="session")
def encoder_without_weights(tmp_path_factory):
    """Return the folder of an encoder without weights, whose tokenizer knows `WORDS`."""
    folder = save_tiny_encoder("bert", tmp_path_factory.mktemp("encoder"))
    (folder / "model.safetensors").unlink()
    vocabulary = {word: i for i, word in enumerate([*SPECIAL.values(), *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [(token, vocabulary[token]) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, **SPECIAL).save_pretrained(folder)
    return folder


@pytest.fixture
def build(encoder_without_weights):
    """Return a function that builds a config."""

    def build(data, tasks=TASKS, **values):
        return RunConfig.from_dict(
            {"encoder": str(encoder_without_weights), "tasks": tasks, "data": data, "output_dir": "unused", **values}
        )

    return build


@pytest.fixture
def files(tmp_path, write_jsonl):
    splits = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    return {split: str(write_jsonl(rows, tmp_path / f"{split}.jsonl")) for split, rows in splits.items()}


@pytest.fixture
def inspection(build, files):
    return inspect_data(build(files))


@pytest.fixture
def splits(inspection):
    return inspection.datasets[0].splits


def test_rows_words_and_subwords(splits):
    train = splits["train"]
    assert (train.rows, train.words, train.subwords) == (5, 13, 15)
    assert train.subwords_per_word == 15 / 13
    assert train.word_lengths == Lengths(
        13 / 5, 2, 4, {"50": 2, "90": 4, "95": 4, "99": 4}, lengths=[2, 3, 4], rows=[3, 1, 1]
    )
    assert train.subword_lengths.lengths == [4, 6, 7], "two special tokens each"
    assert train.subword_lengths.rows == [3, 1, 1]
    assert (train.unknown_subwords, train.unknown_share) == (1, 1 / 15)
    assert splits["test"].unknown_subwords == 1
    assert [(split.rows, split.words) for split in splits.values()] == [(5, 13), (2, 4), (4, 10)]


def test_percentiles_are_lengths_that_a_share_of_the_rows_does_not_exceed():
    lengths = Lengths.of(Counter(range(1, 101)))
    assert lengths.percentiles == {"50": 50, "90": 90, "95": 95, "99": 99}
    assert (lengths.mean, lengths.shortest, lengths.longest, lengths.total) == (50.5, 1, 100, 5050)


def test_labels_are_counted_in_rows_or_words(splits):
    assert splits["train"].tasks["intent"].labels == {"music": 2, "weather": 2}
    assert splits["train"].tasks["intent"].unlabelled_rows == 1
    assert splits["train"].tasks["ner"].labels == {"O": 10, "B-city": 2, "I-city": 1}
    assert splits["test"].tasks["intent"].labels == {"music": 1, "weather": 3}
    assert splits["test"].tasks["ner"].labels == {"O": 8, "B-city": 1, "I-city": 0, "B-state": 1}


@pytest.mark.parametrize("unseen_labels", ["error", "ignore"])
def test_unseen_labels_are_counted_and_not_refused(build, files, unseen_labels):
    splits = inspect_data(build({**files, "unseen_labels": unseen_labels})).datasets[0].splits
    unseen = {
        split: [counts.tasks[task].unseen_labels for task in ("intent", "ner")] for split, counts in splits.items()
    }
    assert unseen == {"train": [{}, {}], "validation": [{"news": 1}, {}], "test": [{}, {"B-state": 1}]}


def test_a_label_that_only_the_task_names_is_unseen(build, files):
    tasks = [{**TASKS[0], "labels": ["weather", "news", "sports"]}, TASKS[1]]
    splits = inspect_data(build(files, tasks)).datasets[0].splits
    assert splits["train"].tasks["intent"].labels == {"weather": 2, "news": 0, "sports": 0, "music": 2}
    assert splits["train"].tasks["intent"].unseen_labels == {"music": 2}, "which `labels` do not name"
    assert splits["validation"].tasks["intent"].unseen_labels == {"news": 1, "music": 1}


def test_duplicates_within_and_across_splits(splits):
    assert splits["train"].repeated == Duplicates(1, other_labels=1)
    assert splits["train"].also_in == {}
    assert splits["validation"].repeated == Duplicates(0, 0)
    assert splits["validation"].also_in == {"train": Duplicates(1, other_labels=1)}
    # 'rain zzz' has no intent in train to differ from; 'a song' has a different one in validation.
    assert splits["test"].also_in == {"train": Duplicates(2, other_labels=0), "validation": Duplicates(1, 1)}


def test_repeated_rows_have_other_labels_if_any_two_differ():
    keys = RowKeys(["intent"])
    for label in ("a", "a", "b", None):
        keys.add(["play", "song"], {"intent": label})
    keys.add(["rain"], {"intent": "a"})
    assert keys.repeated() == Duplicates(3, other_labels=2), "a row without a label contradicts nothing"
    other = RowKeys(["intent"])
    other.add(["rain"], {"intent": "a"})
    other.add(["snow"], {"intent": "b"})
    assert other.also_in([keys]) == Duplicates(1, 0)
    assert other.also_in([keys, other]) == Duplicates(2, 0)


def test_long_rows_are_cut_into_windows(build, files):
    train = inspect_data(build({**files, "max_length": 6})).datasets[0].splits["train"]
    assert (train.windowed_rows, train.windows, train.truncated_rows) == (1, 2, 0)
    assert (train.cut_share, train.lost_words) == (1 / 5, 0)
    assert train.subword_lengths.longest == 7, "lengths are those before the cut"


def test_long_rows_are_truncated(build, files):
    inspection = inspect_data(build({**files, "max_length": 6, "truncate": True}))
    train = inspection.datasets[0].splits["train"]
    assert inspection.max_length == 6
    assert (train.windowed_rows, train.windows, train.truncated_rows) == (0, 0, 1)
    assert (train.cut_share, train.lost_words) == (1 / 5, 1)
    assert (train.subword_lengths.longest, train.subwords) == (7, 15), "lengths are those before the cut"


@pytest.mark.parametrize("label_subwords", ["first", "all", "last"])
def test_words_that_the_tokenizer_drops(build, label_subwords):
    rows = [
        {"tokens": ["rainy", "\u200b", "playing"], "intent": "a", "ner": ["O", "O", "O"]},
        {"tokens": ["\u200b"], "intent": "a", "ner": ["O"]},
    ]
    inspection = inspect_data(build({"train": rows, "label_subwords": label_subwords}))
    train = inspection.datasets[0].splits["train"]
    assert (train.lost_words, train.empty_rows, train.subwords) == (2, 1, 4)
    assert [sample.subwords for sample in inspection.datasets[0].samples] == [
        [["rain", "##y"], [], ["play", "##ing"]],
        [[]],
    ]


def test_samples_are_the_first_rows_as_the_model_gets_them(build, files):
    inspection = inspect_data(build(files), num_rows=2)
    first, second = inspection.datasets[0].samples
    assert (first.place, second.place) == (f"{files['train']}:1", f"{files['train']}:2")
    assert second.words == ["playing", "in", "paris"]
    assert second.subwords == [["play", "##ing"], ["in"], ["paris"]]
    assert second.labels == {"intent": "music", "ner": ["O", "O", "B-city"]}
    assert len(inspect_data(build(files), num_rows=9).datasets[0].samples) == 5
    assert inspect_data(build(files), num_rows=0).datasets[0].samples == []


def test_texts_without_token_tasks(build):
    rows = [{"text": "Playing in Paris!", "intent": "a"}, {"text": "rain", "intent": "b"}]
    inspection = inspect_data(build({"train": rows}, TASKS[:1]))
    train = inspection.datasets[0].splits["train"]
    assert train.word_lengths.lengths == [1, 4], "words as split_words finds them"
    assert (train.subwords, train.unknown_subwords, train.lost_words) == (6, 1, 0)
    sample = inspection.datasets[0].samples[0]
    assert sample.words == ["Playing in Paris!"]
    assert sample.subwords == [["play", "##ing", "in", "paris", "<unk>"]]
    assert inspection.unknown_token == "<unk>"


def test_broken_tags_are_shown_and_not_refused(build, tmp_path):
    lines = ["play O", "paris I-city", "", "rain O", "york B-city", "in I-state", "", "song O"]
    (tmp_path / "train.conll").write_text("\n".join(lines) + "\n")
    tasks = [{**TASKS[1], "tag_scheme": "IOB2", "strict_tags": True}]
    data = {"train": str(tmp_path / "train.conll"), "columns": {"tokens": 0, "ner": 1}}
    task = inspect_data(build(data, tasks)).datasets[0].splits["train"].tasks["ner"]
    assert task.broken_rows == 2
    found = [(item.place, item.word, item.text, item.tag, item.expected) for item in task.broken_tags]
    assert found == [
        (f"{tmp_path / 'train.conll'}:2", 1, "paris", "I-city", "B-city"),
        (f"{tmp_path / 'train.conll'}:6", 2, "in", "I-state", "B-state"),
    ]
    assert task.labels == {"O": 3, "B-city": 2, "I-city": 0, "B-state": 1, "I-state": 0}


def test_only_the_first_broken_tags_are_shown(build):
    rows = [{"tokens": ["paris"], "ner": ["I-city"]}] * 20
    tasks = [{**TASKS[1], "tag_scheme": "IOB2"}]
    task = inspect_data(build({"train": rows}, tasks)).datasets[0].splits["train"].tasks["ner"]
    assert (task.broken_rows, len(task.broken_tags)) == (20, 5)


def test_spans_that_do_not_fit_the_words(build):
    spans = [{"start": 8, "end": 11, "label": "city"}, {"start": 0, "end": 4, "label": "verb"}]
    rows = [{"text": "play in paris", "ner": spans}]
    task = inspect_data(build({"train": rows}, TASKS[1:])).datasets[0].splits["train"].tasks["ner"]
    assert task.mismatched_spans == 1
    assert task.labels == {"O": 1, "B-city": 1, "I-city": 0, "B-verb": 1, "I-verb": 0}


def test_labels_that_are_probably_mistakes_are_named(build):
    rows = [{"text": text, "topic": label} for text, label in [("a", "news"), ("b", "News"), ("c", "nan")]]
    config = build({"train": rows, "test": rows}, [{"name": "topic", "type": "sequence_classification"}])
    splits = inspect_data(config).datasets[0].splits
    missing, spelling = splits["train"].tasks["topic"].notes
    assert missing.startswith("'nan' (1 times) may mean that there is no label")
    assert spelling == "'news' (1 times), 'News' (1 times) differ only in spelling"
    assert splits["test"].tasks["topic"].notes == []


def test_several_labels_and_numbers(build):
    rows = [
        {"tokens": ["play"], "topics": ["a", "b"], "stars": 1.0},
        {"tokens": ["play"], "topics": ["b", "a"], "stars": 4.0},
        {"tokens": ["song"], "topics": [], "stars": None},
    ]
    tasks = [
        {"name": "topics", "type": "sequence_classification"},
        {"name": "stars", "type": "sequence_classification", "problem_type": "regression"},
    ]
    test = [{"tokens": ["song"], "topics": ["c", "a"], "stars": 2.0}]
    splits = inspect_data(build({"train": rows, "test": test}, tasks)).datasets[0].splits
    topics, stars = splits["train"].tasks["topics"], splits["train"].tasks["stars"]
    assert topics.labels == {"a": 2, "b": 2}
    assert splits["test"].tasks["topics"].unseen_labels == {"c": 1}
    assert vars(stars.numbers["stars"]) == {"rows": 2, "least": 1.0, "mean": 2.5, "greatest": 4.0}
    assert (stars.labels, stars.unlabelled_rows) == ({}, 1)
    assert splits["train"].repeated == Duplicates(1, other_labels=1), "their numbers differ"
    assert splits["test"].also_in["train"] == Duplicates(1, other_labels=1)


def test_the_order_of_several_labels_does_not_matter(build):
    rows = [{"tokens": ["play"], "topics": ["a", "b"]}, {"tokens": ["play"], "topics": ["b", "a"]}]
    config = build({"train": rows}, [{"name": "topics", "type": "sequence_classification"}])
    assert inspect_data(config).datasets[0].splits["train"].repeated == Duplicates(1, other_labels=0)


@pytest.fixture
def two_datasets(tmp_path):
    files = {
        "ner.conll": "play O\nin O\nparis B-city\n\nsong O\n\n",
        "ner-test.conll": "rain O\nparis B-city\n\n",
        "train.csv": "text,intent\nplay a song,music\nrain paris,weather\nrain,weather\n",
        "validation.csv": "text,intent\nsong,music\nsnow,news\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = {name: str(tmp_path / name) for name in files}
    return [
        {
            "tasks": ["ner"],
            "train": path["ner.conll"],
            "test": path["ner-test.conll"],
            "columns": {"tokens": 0, "ner": 1},
        },
        {"tasks": ["intent"], "train": path["train.csv"], "validation": path["validation.csv"]},
    ]


def test_several_datasets(build, two_datasets):
    entities, intents = inspect_data(build(two_datasets)).datasets
    assert {split: counts.rows for split, counts in entities.splits.items()} == {"train": 2, "test": 1}
    assert {split: counts.rows for split, counts in intents.splits.items()} == {"train": 3, "validation": 2}
    assert (entities.tasks, intents.tasks) == (["ner"], ["intent"])
    assert entities.splits["train"].tasks["ner"].labels == {"O": 3, "B-city": 1, "I-city": 0}
    assert intents.splits["train"].tasks["intent"].labels == {"music": 1, "weather": 2}
    assert intents.splits["validation"].tasks["intent"].unseen_labels == {"news": 1}
    # Each row is in the train of the other dataset, which has a different task.
    assert entities.splits["test"].also_in == {"train": Duplicates(1, 0), "validation": Duplicates(0, 0)}
    assert intents.splits["validation"].also_in == {"train": Duplicates(1, 0)}
    assert intents.samples[0].labels == {"intent": "music"}


def test_splits_are_compared_with_the_train_of_all_datasets(build):
    music, weather = ([{"text": label, "intent": label}] for label in ("music", "weather"))
    tasks = [{**TASKS[0], "labels": ["music", "weather"]}]
    first, second = inspect_data(
        build([{"train": music, "test": weather}, {"train": weather, "test": music}], tasks)
    ).datasets
    for dataset in (first, second):
        assert dataset.splits["test"].tasks["intent"].unseen_labels == {}
        assert dataset.splits["test"].also_in == {"train": Duplicates(1, 0)}


def test_a_streamed_train_has_the_same_counts_and_is_never_all_in_memory(build, files, monkeypatch):
    expected = inspect_data(build({**files, "max_length": 6})).to_dict()
    monkeypatch.setattr("hf_multitask.data.dataset_loader.ROWS_AT_ONCE", 2)
    sizes = Counter()
    collect = Rows.collect

    def spy(source, rows, numbers=()):
        collected = collect(source, rows, numbers)
        sizes[source] = max(sizes[source], len(collected.rows))
        return collected

    monkeypatch.setattr(Rows, "collect", spy)
    streamed = build({**files, "max_length": 6, "streaming": True}, training={"max_steps": 1})
    assert inspect_data(streamed).to_dict() == expected
    assert sizes[files["train"]] == 2


def test_several_streamed_datasets_have_the_same_counts(build, two_datasets):
    expected = inspect_data(build(two_datasets)).to_dict()
    streamed = [{**data, "streaming": True} for data in two_datasets]
    assert inspect_data(build(streamed, training={"max_steps": 1})).to_dict() == expected


def test_validation_split_off_from_train(build, files):
    splits = inspect_data(build({"train": files["train"], "validation_split": 0.4})).datasets[0].splits
    assert sum(counts.rows for counts in splits.values()) == 5
    assert sum(counts.words for counts in splits.values()) == 13


def test_other_errors_in_the_data_are_raised_as_in_a_training(build, files, tmp_path):
    Path(files["test"]).write_text('{"tokens": ["a"], "intent": "music", "ner": ["O", "O"]}\n')
    with pytest.raises(ValueError, match=r"test.jsonl:1: column 'ner': expected one tag per word, found 2 tags"):
        inspect_data(build(files))


def test_json_contains_everything(inspection):
    values = inspection.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["data_sets"][0]["splits"]["train"]["tasks"]["ner"]["labels"]["B-city"] == 2


def test_the_most_and_least_frequent_of_many_labels_are_shown(build):
    rows = [{"text": "play", "intent": f"label{i}"} for i in range(5) for _ in range(5 - i)]
    (dataset,) = inspect_data(build({"train": rows}, TASKS[:1])).datasets
    assert dataset.shown_labels("intent", 4) == (["label0", "label1", "label3", "label4"], ["label2"])
    assert dataset.shown_labels("intent", 5) == ([f"label{i}" for i in range(5)], [])


@pytest.mark.filterwarnings("error")
def test_a_png_is_an_image_that_is_not_blank(inspection, tmp_path):
    save_data_figure(inspection, tmp_path / "data.png")
    pixels = matplotlib.image.imread(tmp_path / "data.png")
    assert pixels.shape[0] > 300
    assert pixels.shape[1] == 1000
    # Each split has a different shade, so that the figure can be read without color.
    shades = {tuple(color) for color in (pixels[..., :3].reshape(-1, 3) * 255).round().astype(int)}
    assert {(0, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xCC, 0x79, 0xA7)} <= shades


@pytest.mark.filterwarnings("error")
def test_an_svg_has_labels_as_text(build, tmp_path):
    rows = [{"text": "play", "intent": f"$label_{i}$"} for i in range(MAX_LABELS + 5)]
    rows += [{"text": "play", "intent": "$label_0$"}] * 99
    save_data_figure(inspect_data(build({"train": rows, "test": rows}, TASKS[:1])), tmp_path / "data.svg")
    text = (tmp_path / "data.svg").read_text()
    shown = re.findall(r">(\$label_\d+\$)<", text)
    assert len(set(shown)) == MAX_LABELS, "no label is taken for a formula"
    for expected in (
        ">… 5 more<",
        ">intent<",
        ">train<",
        ">test<",
        ">100<",
        ">count (logarithmic)<",
        ">words per row<",
    ):
        assert expected in text


def test_a_figure_of_several_datasets_names_them(build, two_datasets, tmp_path):
    save_data_figure(inspect_data(build(two_datasets)), tmp_path / "data.svg")
    text = (tmp_path / "data.svg").read_text()
    for expected in ("data.0: ner", "data.1: intent", "data.0: words per row", "data.1: subwords per row", "B-city"):
        assert f">{expected}<" in text


def test_a_figure_without_matplotlib_names_the_extra_to_install(inspection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'hf-multitask\[plots\]'"):
        save_data_figure(inspection, tmp_path / "data.png")


def test_a_figure_in_an_unknown_format_is_refused(inspection, tmp_path):
    with pytest.raises(ValueError, match=r"expected a file that ends with .png or .svg, found '.*data.gif'"):
        save_data_figure(inspection, tmp_path / "data.gif")


@pytest.mark.realdata
def test_wnut17_and_clinc150(real_data):
    config = Path(__file__).parents[2] / "examples" / "wnut17-clinc150.yaml"
    paths = {
        name: {split: str(real_data / name / f"{split}.{suffix}") for split in ("train", "validation", "test")}
        for name, suffix in (("wnut17", "conll"), ("clinc150", "csv"))
    }
    data = [
        {"tasks": ["ner"], **paths["wnut17"], "columns": {"tokens": 0, "ner": 1}},
        {"tasks": ["intent"], **paths["clinc150"]},
    ]
    wnut, clinc = inspect_data(RunConfig.from_file(config, {"data": data})).datasets
    # As published by Derczynski et al. 2017 and, for the small train set, by Larson et al. 2019.
    assert [wnut.splits[split].rows for split in paths["wnut17"]] == [3394, 1009, 1287]
    assert [clinc.splits[split].rows for split in paths["clinc150"]] == [7500, 3000, 4500]
    for split, path in paths["wnut17"].items():
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        tags = Counter(line.split("\t")[1] for line in lines if line.strip())
        counts = wnut.splits[split]
        assert {label: count for label, count in counts.tasks["ner"].labels.items() if count} == tags
        assert counts.words == tags.total()
        assert counts.tasks["ner"].broken_rows == 0
    texts = {
        split: Counter(" ".join(row["tokens"]) for row in read_rows(path, columns={"tokens": 0, "ner": 1}).rows)
        for split, path in paths["wnut17"].items()
    }
    for split, rows in texts.items():
        assert wnut.splits[split].repeated.rows == rows.total() - len(rows)
    rows_of = {split: read_rows(path).rows for split, path in paths["clinc150"].items()}
    in_train = {row["text"]: row["intent"] for row in rows_of["train"]}
    for split in ("validation", "test"):
        both = [row for row in rows_of[split] if row["text"] in in_train]
        other = sum(in_train[row["text"]] != row["intent"] for row in both)
        assert clinc.splits[split].also_in["train"] == Duplicates(len(both), other)
        assert len(both) > 0
    assert set(clinc.splits["train"].tasks["intent"].labels.values()) == {50}
