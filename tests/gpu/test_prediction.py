"""Predictions on a device: the pipeline, files, teachers, saved models, ONNX graphs."""

import json

import pytest
import torch
from accelerate import PartialState
from transformers import pipeline

from hf_multitask import MultiTaskDataCollator, MultiTaskModel, TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.export import export_onnx
from hf_multitask.export.onnx_scores import score_onnx
from hf_multitask.models import load_model
from hf_multitask.models.onnx_session import ONNX_FILES
from hf_multitask.models.predictor import OutputOptions
from hf_multitask.prediction import BulkPrediction
from hf_multitask.runs import run_evaluation
from hf_multitask.training.contrastive import ContrastiveCallback, ContrastiveConfig
from hf_multitask.training.teacher_targets import add_teacher_targets
from tests.comparison import approximately
from tests.gpu.devices import NEEDS_CUDA, losses, train
from tests.tiny import INTENTS, ROWS, SENTENCES

pytestmark = pytest.mark.gpu

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=sorted(set(INTENTS))),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place"], head="lstm", crf=True),
]
WORDS = [word for sentence in SENTENCES for word in sentence.split()]
# One window and several, and words without a subword.
TEXTS = [*SENTENCES, " ".join(WORDS * 3), "play", "play \u200b some \u0301 music"]


@pytest.fixture
def model_dir(encoder, tmp_path):
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(encoder, TASKS)
    for head in model.heads.values():
        torch.nn.init.normal_(head.classifier.weight, std=2.0)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    load_tokenizer(encoder).save_pretrained(folder)
    return folder


def index_of(device):
    return -1 if device == "cpu" else 0


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_the_pipeline_predicts_on_a_device(batch_size, device, model_dir):
    expected = pipeline("multi-task", model=str(model_dir), device="cpu")(TEXTS, word_labels=True)
    on_device = pipeline("multi-task", model=str(model_dir), device=index_of(device))
    assert on_device.model.device.type == device
    found = on_device(TEXTS, batch_size=batch_size, word_labels=True)
    assert found == approximately(expected, abs=1e-4)
    assert any(prediction["slots"]["entities"] for prediction in found)
    assert on_device(TEXTS[0], top_k=2) == approximately(on_device(TEXTS[:1], top_k=2)[0], abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_pipeline_predicts_in_half_precision(dtype, device, model_dir):
    expected = pipeline("multi-task", model=str(model_dir), device="cpu")(TEXTS)
    found = pipeline("multi-task", model=str(model_dir), device=index_of(device), dtype=dtype)(TEXTS)
    for half, full in zip(found, expected, strict=True):
        assert half["grade"]["value"] == pytest.approx(full["grade"]["value"], abs=0.3)


@pytest.mark.parametrize("batch_size", [4, "auto"])
def test_a_file_is_predicted_on_a_device(batch_size, device, model_dir, tmp_path):
    expected = pipeline("multi-task", model=str(model_dir), device="cpu")(TEXTS, word_labels=True)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    PartialState._reset_state()
    PartialState(cpu=device == "cpu")
    model, tokenizer = load_model(model_dir)
    options = OutputOptions(word_labels=True)
    job = BulkPrediction(tmp_path / "texts.jsonl", tmp_path / "out.jsonl", options, batch_size=batch_size)
    job.run(model, tokenizer)
    assert model.device.type == device
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert found == approximately(expected, abs=1e-4)
    PartialState._reset_state()


def test_sentences_are_embedded_on_a_device(device, model_dir):
    model, tokenizer = load_model(model_dir)
    expected = model.encode(TEXTS, tokenizer)
    found = model.to(device).encode(TEXTS, tokenizer, batch_size=3)
    assert found.device.type == device
    assert torch.allclose(found.cpu(), expected, atol=1e-5)


def test_a_model_that_was_saved_on_a_device_loads_on_the_cpu(device, encoder, data, tokenizer, tmp_path):
    trainer = train(device, encoder, data, tokenizer, tmp_path / "run", "heads-then-all")
    trainer.save_model(tmp_path / "saved")
    loaded = MultiTaskModel.from_pretrained(tmp_path / "saved")
    assert {weight.device.type for weight in loaded.parameters()} == {"cpu"}
    found = trainer.model.state_dict()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, found[name].cpu())
    arguments = torch.load(tmp_path / "saved" / "training_args.bin", weights_only=False)
    assert arguments.use_cpu == (device == "cpu")


@NEEDS_CUDA
def test_a_model_is_loaded_onto_the_device_at_once(model_dir):
    model = MultiTaskModel.from_pretrained(model_dir, device_map="cuda")
    tokenizer = load_tokenizer(model_dir)
    assert {weight.device.type for weight in model.parameters()} == {"cuda"}
    found = pipeline("multi-task", model=model, tokenizer=tokenizer)(TEXTS)
    expected = pipeline("multi-task", model=str(model_dir), device="cpu")(TEXTS)
    assert found == approximately(expected, abs=1e-4)
    assert next(iter(model.layer_groups())).name == "embeddings"


@NEEDS_CUDA
def test_batches_on_the_wrong_device_are_an_error(model_dir):
    model, tokenizer = load_model(model_dir)
    batch = tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    with pytest.raises(RuntimeError, match="device"):
        model.to("cuda")(**batch)


def test_an_evaluation_of_a_saved_model(device, encoder, data, tokenizer, tmp_path):
    trainer = train(device, encoder, data, tokenizer, tmp_path / "run")
    trainer.save_model(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    expected = trainer.evaluate()
    found = run_evaluation(tmp_path / "saved", ROWS[:10])
    for name, value in found.items():
        assert value == pytest.approx(expected[f"eval_{name}"], abs=1e-3), name


def test_a_teacher_scores_on_a_device_and_a_student_learns(device, encoder, encoders, tmp_path):
    tokenizer = load_tokenizer(encoder)
    kinds = {"intent": "sequence_classification", "slots": "token_classification"}
    tasks = [TaskConfig(name, kind) for name, kind in kinds.items()]
    prepared = prepare_datasets({"train": ROWS}, tokenizer, tasks, train_texts=True)
    teacher = tmp_path / "teacher"
    MultiTaskModel.from_encoder(encoders["roberta"], prepared.tasks).save_pretrained(teacher)
    load_tokenizer(encoders["roberta"]).save_pretrained(teacher)
    data = add_teacher_targets(prepared, teacher, device=torch.device(device))
    trainer = train(device, encoder, data, tokenizer, tmp_path / "run")
    assert losses(trainer).isfinite().all()
    assert any("intent_teacher_loss" in entry for entry in trainer.state.log_history)


@pytest.mark.parametrize("given", [{}, {"bf16": True}], ids=str)
def test_a_contrastive_warm_up_on_a_device(given, device, encoder, data, tokenizer, tmp_path):
    collator = MultiTaskDataCollator(tokenizer, data.tasks)
    warm_up = ContrastiveCallback(data["train"], collator, ContrastiveConfig(epochs=1, batch_size=8))
    trainer = train(device, encoder, data, tokenizer, tmp_path, given={"callbacks": [warm_up]}, **given)
    assert losses(trainer).isfinite().all()


@NEEDS_CUDA
def test_a_graph_is_scored_where_its_model_is_on_a_device(encoder, data, tokenizer, tmp_path, write_jsonl):
    trainer = train("cuda", encoder, data, tokenizer, tmp_path / "run")
    trainer.save_model(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    export_onnx(tmp_path / "saved", int8=True)
    # The graphs compute on the CPU all the same.
    scores = score_onnx(tmp_path / "saved", write_jsonl(ROWS))
    assert list(scores) == ["torch", "onnx", "onnx-int8"]
    assert scores["onnx"] == pytest.approx(scores["torch"], abs=1e-3)


@NEEDS_CUDA
@pytest.mark.parametrize("backend", ["onnx", "onnx-int8"])
def test_a_graph_computes_on_a_device(backend, model_dir):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has no CUDA provider: pip install onnxruntime-gpu")
    export_onnx(model_dir, int8=True)
    path = model_dir / ONNX_FILES[backend]
    sessions = [
        onnxruntime.InferenceSession(str(path), providers=[f"{name}ExecutionProvider"]) for name in ("CPU", "CUDA")
    ]
    assert sessions[1].get_providers()[0] == "CUDAExecutionProvider"
    on_cpu = pipeline("multi-task", model=str(model_dir), backend=backend)
    expected = on_cpu(TEXTS)
    on_cpu._session.session = sessions[1]
    assert on_cpu(TEXTS) == approximately(expected, abs=1e-2)


@NEEDS_CUDA
def test_without_a_device_the_pipeline_takes_the_gpu_and_a_graph_the_cpu(model_dir):
    assert pipeline("multi-task", model=str(model_dir)).device.type == "cuda"
    export_onnx(model_dir)
    assert pipeline("multi-task", model=str(model_dir), backend="onnx").device.type == "cpu"
    with pytest.raises(ValueError, match="computes on the CPU, found cuda"):
        pipeline("multi-task", model=str(model_dir), backend="onnx", device=0)
