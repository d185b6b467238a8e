"""Exported graphs compute the same predictions as their models."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import onnx
import pytest
import torch
from transformers import PreTrainedTokenizerFast, pipeline

from hf_multitask import MultiTaskDataCollator, MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.cli import main
from hf_multitask.export import export_onnx, onnx_export
from hf_multitask.models import load_model
from hf_multitask.models.onnx_session import BACKENDS, ONNX_FILES, OnnxSession, graph_inputs
from hf_multitask.models.text_alignment import NO_POSITION, Aligner
from tests.comparison import approximately
from tests.conftest import MINILM
from tests.tiny import ARCHITECTURES, INTENTS, ROWS, SENTENCES, SPECIAL

TASKS = [
    TaskConfig(
        "intent", "sequence_classification", labels=sorted(set(INTENTS)), problem_type="single_label_classification"
    ),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place", "B-x", "I-x"]),
]
WORDS = [word for sentence in SENTENCES for word in sentence.split()]
# One window and several windows, one word, and words without a subword.
TEXTS = [*SENTENCES, " ".join(WORDS * 3), "play", " ".join(WORDS * 2), "play \u200b some \u0301 music"]
MAX_LENGTH = 24


def save_model(encoder, folder, tasks=TASKS, pooling="mean", std=2.0):
    """Save a model whose random heads are scaled so that they predict many labels."""
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(encoder, tasks, pooling=pooling)
    for head in model.heads.values():
        torch.nn.init.normal_(head.classifier.weight, std=std)
    for weight in model.private_layers.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    tokenizer = load_tokenizer(encoder)
    tokenizer.model_max_length = min(MAX_LENGTH, tokenizer.model_max_length)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def batch_of(tokenizer, tasks, rows, max_length=None):
    columns = Aligner(tokenizer, tasks, max_length)({"words": rows})
    return MultiTaskDataCollator(tokenizer, tasks)(
        [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    )


@pytest.fixture(scope="module")
def command(encoders, tmp_path_factory, write_jsonl):
    """Export a model to another folder by the command. Return both folders and the printed output."""
    folder = save_model(encoders["bert"], tmp_path_factory.mktemp("exported") / "model")
    output = folder.parent / "a folder"
    rows = [{**row, "topics": ["x"], "grade": 1.0} for row in ROWS]
    path = write_jsonl([{"words" if name == "tokens" else name: row[name] for name in row} for row in rows])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        options = ["--int8", "--data", str(path), "--columns", "tokens=words", "--output", str(output)]
        assert main(["export", str(folder), *options]) == 0
    return folder, output, printed.getvalue()


@pytest.fixture(scope="module")
def exported(command):
    """Return the folder of a model with all its graphs."""
    folder, output, _ = command
    return shutil.copytree(output, shutil.copytree(folder, folder.parent / "with graphs"), dirs_exist_ok=True)


def test_the_command_writes_the_files_and_prints_their_scores(command):
    folder, output, printed = command
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*.*")) == [
        "onnx/model.onnx",
        "onnx/model_int8.onnx",
    ]
    assert not list(folder.glob("**/*.onnx"))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    scores = {line[0]: [float(cell) for cell in line[1:]] for line in lines if len(line) == 4}
    assert {"intent_accuracy", "slots_f1", "joint_accuracy", "loss"} < scores.keys()
    for name, (of_torch, of_graph, _) in scores.items():
        # Labels are equal, and losses differ at most in the last printed digit.
        assert of_graph == pytest.approx(of_torch, abs=2e-4 if "loss" in name else 0)
    assert scores["loss"][0] != scores["loss"][2] == pytest.approx(scores["loss"][0], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "bert"])
def test_the_pipeline_answers_as_with_torch(architecture, encoders, tmp_path):
    folder = save_model(encoders[architecture], tmp_path)
    export_onnx(folder)
    assert_pipelines_agree(folder)


def test_the_pipeline_answers_as_with_torch_in_batches_of_any_size(exported):
    for batch_size in (1, 3, 32):
        assert_pipelines_agree(exported, batch_size=batch_size)


def assert_pipelines_agree(folder, **options):
    expected = pipeline("multi-task", model=str(folder))(TEXTS, word_labels=True, **options)
    found = pipeline("multi-task", model=str(folder), backend="onnx")(TEXTS, word_labels=True, **options)
    assert sum(len(prediction["slots"]["entities"]) for prediction in expected) > 10
    assert found == approximately(expected, abs=1e-4, rel=1e-4)


def test_one_batch_per_thread_of_torch_is_computed_at_the_same_time(exported):
    torch.set_num_threads(2)
    predict = pipeline("multi-task", model=str(exported), backend="onnx", batch_size=2)
    expected = pipeline("multi-task", model=str(exported), batch_size=2)(SENTENCES[:8])
    both, run = threading.Barrier(2, timeout=20), predict._session.session.run

    class Meeting:
        def run(self, names, inputs):
            both.wait()  # Fails if the batches come one after the other.
            return run(names, inputs)

    predict._session.session = Meeting()
    assert predict(SENTENCES[:8]) == approximately(expected, abs=1e-4, rel=1e-4)


@torch.inference_mode()
def test_logits_of_long_texts_are_those_of_the_model(exported):
    model, tokenizer = load_model(exported)
    session = OnnxSession(exported / ONNX_FILES["onnx"])
    for rows in (
        [WORDS[:3], WORDS[:9]],
        [WORDS * 3],
        [WORDS[:3], WORDS * 2, ["play"], WORDS * 4, WORDS[:20]],
        [["play"]],
        [[""], ["\u200b"]],
    ):
        batch = batch_of(tokenizer, TASKS, rows)
        expected, found = model(**batch).logits, session(batch, [task.name for task in TASKS])
        assert found.keys() == expected.keys()
        for task in TASKS:
            one, other = expected[task.name], found[task.name]
            assert one.shape == other.shape
            if task.is_token_task:
                one, other = (logits[batch["tag_positions"] != NO_POSITION] for logits in (one, other))
            assert torch.allclose(one, other, atol=1e-4)


def test_texts_in_windows_are_run_one_at_a_time(exported):
    session = OnnxSession(exported / ONNX_FILES["onnx"])
    batch = batch_of(load_tokenizer(exported), TASKS, [WORDS * 3, WORDS[:3], WORDS * 2])
    sizes, run = [], session.session.run

    class Counted:
        def run(self, names, inputs):
            sizes.append(len(inputs["input_ids"]))
            return run(names, inputs)

    session.session = Counted()
    session(batch, ["intent"])
    assert sizes == batch["row_windows"].sum(dim=1).tolist()
    assert min(sizes) == 1 < max(sizes) < len(batch["input_ids"])


def test_names_and_axes_of_the_graph(exported):
    graph = onnx.load(exported / "onnx" / "model.onnx").graph
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert axes == {
        "input_ids": ["num_windows", "seq_len"],
        "attention_mask": ["num_windows", "seq_len"],
        "row_windows": ["batch", "num_windows"],
        "tag_positions": ["batch", "num_words"],
        "intent": ["batch", 4],
        "topics": ["batch", 2],
        "grade": ["batch", 1],
        "slots": ["batch", "num_words", 5],
    }


def test_only_requested_tasks_are_computed(exported):
    predict = pipeline("multi-task", model=str(exported), backend="onnx", tasks=["intent"])
    requested, run = [], predict._session.session.run

    class Watched:
        def run(self, names, inputs):
            requested.append(names)
            return run(names, inputs)

    predict._session.session = Watched()
    assert predict(SENTENCES[0]).keys() == {"intent"}
    assert requested == [["intent"]]


@pytest.mark.parametrize(("kind", "pooling"), [("sequence_classification", "max"), ("token_classification", "mean")])
def test_a_model_with_tasks_of_one_kind(kind, pooling, encoders, tmp_path):
    tasks = [task for task in TASKS if task.type == kind]
    folder = save_model(encoders["bert"], tmp_path, tasks, pooling)
    export_onnx(folder)
    answers = [pipeline("multi-task", model=str(folder), backend=name)(TEXTS) for name in ("torch", "onnx")]
    assert answers[0] == approximately(answers[1], abs=1e-4, rel=1e-4)


@pytest.mark.parametrize(("head", "private"), [("linear", 0), ("lstm", 0), ("linear", 2)])
def test_heads_of_other_kinds(head, private, encoders, tmp_path):
    tasks = [TASKS[0], replace(TASKS[3], head=head, mix_layers=True, crf=True, private_layers=private)]
    folder = save_model(encoders["bert"], tmp_path, tasks)
    export_onnx(folder, int8=True)
    assert_pipelines_agree(folder)


def test_an_encoder_with_token_types(encoders, tmp_path):
    folder = save_model(encoders["bert"], tmp_path, pooling="cls")
    names = ["input_ids", "token_type_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=load_tokenizer(folder).backend_tokenizer,
        model_max_length=MAX_LENGTH,
        model_input_names=names,
        **SPECIAL,
    ).save_pretrained(folder)
    export_onnx(folder)
    assert "token_type_ids" in OnnxSession(folder / ONNX_FILES["onnx"]).input_names
    assert_pipelines_agree(folder)


def test_8_bits_are_smaller_and_answer_nearly_the_same(exported):
    sizes = [(exported / name).stat().st_size for name in ONNX_FILES.values()]
    expected = pipeline("multi-task", model=str(exported))(TEXTS, word_labels=True)
    found = pipeline("multi-task", model=str(exported), backend="onnx-int8")(TEXTS, word_labels=True)
    pairs = [
        (one, other)
        for text, other_text in zip(expected, found, strict=True)
        for one, other in zip(text["slots"]["labels"], other_text["slots"]["labels"], strict=True)
    ]
    assert sum(one == other for one, other in pairs) / len(pairs) > 0.9
    scores = [(text["intent"]["score"], other["intent"]["score"]) for text, other in zip(expected, found, strict=True)]
    assert 1e-6 < max(abs(one - other) for one, other in scores) < 0.2  # Not equal, as they have 8 bits, but close.
    assert sizes[1] < sizes[0]


def test_a_graph_that_computes_something_else_is_refused_and_not_kept(exported, tmp_path, monkeypatch):
    model, tokenizer = load_model(exported)
    with torch.no_grad():
        model.heads["slots"].classifier.bias += 0.01
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    graph = exported / "onnx" / "model.onnx"
    monkeypatch.setattr(onnx_export, "_write_onnx", lambda _, __, path: shutil.copy(graph, path))
    with pytest.raises(ValueError, match=r"task 'slots': the exported graph's logits differ .* 0\.01, allowed is 0"):
        export_onnx(tmp_path)
    assert not list((tmp_path / "onnx").iterdir())


def test_an_encoder_that_cannot_be_exported_is_named(exported, monkeypatch):
    def forward(self, input_ids, **_):
        return input_ids if input_ids.sum().item() > 3 else None

    model, tokenizer = load_model(exported)
    monkeypatch.setattr(type(model.encoder), "forward", forward)
    with pytest.raises(ValueError, match="an encoder of type 'bert' cannot be exported by torch"):
        onnx_export._export_program(model, batch_of(tokenizer, TASKS, [WORDS * 2, WORDS[:9]]))


def test_a_graph_of_other_weights_is_refused(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "model")
    model, _ = load_model(folder)
    with torch.no_grad():
        model.heads["intent"].classifier.bias[0] += 1
    model.save_pretrained(folder)
    for backend in ONNX_FILES:
        with pytest.raises(ValueError, match="was made from other weights than the model has now; `hf-multitask ex"):
            pipeline("multi-task", model=str(folder), backend=backend)


def test_a_missing_graph_names_the_command_that_makes_it(encoders, tmp_path):
    folder = save_model(encoders["bert"], tmp_path)
    for backend, option in (("onnx", "--onnx"), ("onnx-int8", "--int8")):
        with pytest.raises(FileNotFoundError, match=f"{ONNX_FILES[backend]}; `hf-multitask export .* {option}` makes"):
            pipeline("multi-task", model=str(folder), backend=backend)


def test_an_unknown_backend_is_refused(exported):
    with pytest.raises(ValueError, match=r"unknown backend 'onx'\. Did you mean 'onnx'"):
        pipeline("multi-task", model=str(exported), backend="onx")
    assert BACKENDS == ("torch", "onnx", "onnx-int8")


def test_a_backend_that_is_not_on_the_cpu_is_refused(exported):
    with pytest.raises(ValueError, match="device: backend 'onnx' computes on the CPU, found meta"):
        pipeline("multi-task", model=str(exported), backend="onnx", device="meta")


# In a separate process: packages that cannot be imported, as if they were not installed.
WITHOUT = """
import sys
from transformers import pipeline
from hf_multitask.export import export_onnx

PACKAGES = ("onnxruntime", "onnxscript")
assert not sys.modules.keys() & PACKAGES

sys.modules |= dict.fromkeys(PACKAGES)
folder = sys.argv[1]
pipeline("multi-task", model=folder)("play")
for call in (lambda: pipeline("multi-task", model=folder, backend="onnx"), lambda: export_onnx(folder)):
    try:
        call()
    except ImportError as error:
        print(error)
"""


def test_a_missing_package_is_named_with_its_extra(exported):
    arguments = [sys.executable, "-c", WITHOUT, exported]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines() == [
        "an ONNX graph needs onnxruntime: pip install 'hf-multitask[onnx]'",
        "the export to ONNX needs onnxruntime and onnxscript: pip install 'hf-multitask[onnx]'",
    ], result.stderr


def test_threads_are_those_of_torch(exported):
    torch.set_num_threads(2)
    session = OnnxSession(exported / ONNX_FILES["onnx"])
    assert session.session.get_session_options().intra_op_num_threads == 2


def test_a_task_with_the_name_of_an_input(encoders, tmp_path):
    tasks = [TaskConfig("input_ids", "sequence_classification", labels=["a", "b"])]
    folder = save_model(encoders["bert"], tmp_path, tasks)
    with pytest.raises(
        ValueError, match="task 'input_ids': an output of an ONNX graph cannot have the name of an input"
    ):
        export_onnx(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --onnx or --int8, found neither"),
        (["--int8", "--data", "rows.jsonl"], "rows.jsonl: there is no such file"),
        (["--int8", "--columns", "text"], "--columns: expected parts such as tokens=0"),
    ],
)
def test_the_command_refuses_wrong_options_before_it_exports(arguments, message, exported, tmp_path, capsys):
    assert main(["export", str(exported), *arguments, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_of_the_hub_needs_a_folder_to_write_to():
    with pytest.raises(
        ValueError, match="output: 'someone/model' is not a folder that can be written to; give a folder"
    ):
        export_onnx("someone/model")


@pytest.mark.slow
@pytest.mark.realdata
def test_labels_of_the_real_encoder_are_those_of_torch(real_data, tmp_path):
    rows = [json.loads(line) for line in (real_data / "snips" / "test.jsonl").read_text().splitlines()]
    tags = sorted({tag.split("-", 1)[1] for row in rows for tag in row["slots"] if tag != "O"})
    tasks = [
        TaskConfig(
            "intent",
            "sequence_classification",
            labels=sorted({row["intent"] for row in rows}),
            problem_type="single_label_classification",
        ),
        TaskConfig("slots", "token_classification", labels=["O", *(f"{p}-{tag}" for tag in tags for p in "BI")]),
    ]
    folder = save_model(MINILM, tmp_path, tasks, std=0.5)
    export_onnx(folder)
    texts = [{"tokens": row["tokens"]} for row in rows]
    found, expected = (
        pipeline("multi-task", model=str(folder), backend=backend)(texts, word_labels=True)
        for backend in ("onnx", "torch")
    )
    assert len({prediction["intent"]["label"] for prediction in expected}) > 3
    assert len({tag for prediction in expected for tag in prediction["slots"]["labels"]}) > 30
    assert found == approximately(expected, abs=1e-4, rel=1e-4)


def test_a_graph_has_calibrated_scores_and_its_session_the_logits(encoders, tmp_path):
    tasks = [task if task.problem_type == "regression" else replace(task, temperature=2.5) for task in TASKS]
    crf = TaskConfig("places", "token_classification", labels=["O", "B-x", "I-x"], crf=True, temperature=2.0)
    folder = save_model(encoders["bert"], tmp_path / "model", [*tasks, crf])
    export_onnx(folder)
    assert_pipelines_agree(folder)
    torch_scores, onnx_scores = (
        [row["intent"]["score"] for row in pipeline("multi-task", model=str(folder), backend=backend)(TEXTS)]
        for backend in ("torch", "onnx")
    )
    assert onnx_scores == pytest.approx(torch_scores, abs=1e-5)
    session = OnnxSession(folder / ONNX_FILES["onnx"])
    assert session.temperatures == {"intent": 2.5, "topics": 2.5, "slots": 2.5}
    model, tokenizer = load_model(folder)
    batch = batch_of(tokenizer, model.config.tasks, [SENTENCES[0].split(), SENTENCES[1].split()])
    inputs = {name: value.numpy() for name, value in graph_inputs(batch).items() if name in session.input_names}
    raw = dict(zip(["intent", "places"], session.session.run(["intent", "places"], inputs), strict=True))
    scores = torch.from_numpy(raw["intent"]).softmax(-1).max(-1).values
    expected = [row["intent"]["score"] for row in pipeline("multi-task", model=str(folder))(SENTENCES[:2])]
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    # A CRF's temperature belongs to its marginals.
    logits = model(**batch, return_dict=True).logits
    assert torch.allclose(torch.from_numpy(raw["places"]), logits["places"], atol=1e-4)
    # Another calibration leaves the graph usable: the pipeline has the scores of the config.
    config = json.loads((folder / "config.json").read_text())
    config["tasks"][0]["temperature"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    assert_pipelines_agree(folder)
