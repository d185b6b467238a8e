"""The gradient scaler of fp16 over changes of stage."""

import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel, MultiTaskTrainer
from tests.gpu.devices import NEEDS_CUDA, train, weights
from tests.trainers import make_trainer, without_dropout

pytestmark = [pytest.mark.gpu, NEEDS_CUDA]

STAGES = {
    "stages": [
        {"train": "heads", "steps": 3},
        {"train": "encoder", "steps": 3},
        {"train": "heads", "steps": 3},
        {"train": "all"},
    ]
}


class Scales(TrainerCallback):
    """Records the scale and the weights after each step."""

    trainer: MultiTaskTrainer

    def __init__(self):
        self.scales, self.weights = [], []

    def on_step_end(self, args, state, control, **kwargs):
        self.scales.append(self.trainer.accelerator.scaler.get_scale())
        self.weights.append(weights(self.trainer))


class Overflowing(MultiTaskTrainer):
    """Makes the loss of some steps so large that its gradients are infinite."""

    steps = ()

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        return loss * 1e38 if self.state.global_step in self.steps else loss


def overflow(encoder, data, tokenizer, folder, steps, schedule=STAGES, resume=None, **arguments):
    torch.manual_seed(0)
    seen = Scales()
    model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    seen.trainer = trainer = make_trainer(
        model,
        data,
        tokenizer,
        folder,
        schedule,
        {"callbacks": [seen]},
        trainer=Overflowing,
        **{"fp16": True, "max_steps": 12, "learning_rate": 1e-3, "logging_steps": 100, **arguments},
    )
    trainer.steps = steps
    trainer.train(resume_from_checkpoint=resume)
    return trainer, seen


def test_each_stage_moves_what_it_trains(encoder, data, tokenizer, tmp_path):
    _, seen = overflow(encoder, data, tokenizer, tmp_path, ())
    for start, prefix in ((0, "heads."), (3, "encoder."), (6, "heads."), (9, "")):
        before, after = seen.weights[start], seen.weights[start + 2]
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved, start
        assert all(name.startswith(prefix) for name in moved), start


# The last and the first step of a stage among them.
@pytest.mark.parametrize("step", [1, 2, 3, 5, 6, 9, 11])
def test_a_step_with_infinite_gradients_is_skipped_and_halves_the_scale(step, encoder, data, tokenizer, tmp_path):
    _, seen = overflow(encoder, data, tokenizer, tmp_path, {step})
    assert len(seen.scales) == 12
    before = seen.scales[step - 1]
    assert seen.scales[step] == before / 2
    for name, weight in seen.weights[step].items():
        assert torch.equal(weight, seen.weights[step - 1][name]), name
    assert all(weight.isfinite().all() for weight in seen.weights[-1].values())
    if step < 11:
        assert any(not torch.equal(seen.weights[step + 1][name], seen.weights[step][name]) for name in seen.weights[0])


def test_a_stage_after_a_skipped_step_has_no_old_gradient(encoder, data, tokenizer, tmp_path):
    # Step 2 is the last of the heads, and its gradients are infinite.
    _, seen = overflow(encoder, data, tokenizer, tmp_path, {2})
    for name, weight in seen.weights[3].items():
        if name.startswith("heads."):
            assert torch.equal(weight, seen.weights[1][name]), name


def test_an_average_and_a_protected_head_train_in_fp16(encoder, data, tokenizer, tmp_path):
    schedule = {
        "stages": [{"train": "heads", "steps": 3}, {"freeze": "head.intent"}],
        "protect": {"intent": {"distill": 1.0}},
    }
    trainer = train(
        "cuda",
        encoder,
        data,
        tokenizer,
        tmp_path,
        schedule,
        fp16=True,
        ema_decay=0.5,
        eval_strategy="steps",
        eval_steps=4,
        gradient_accumulation_steps=2,
    )
    assert all(weight.isfinite().all() for weight in weights(trainer).values())
    assert trainer.state.global_step == 8


@pytest.mark.usefixtures("deterministic")
def test_the_scale_is_resumed(encoder, data, tokenizer, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 4}
    _, whole = overflow(encoder, data, tokenizer, tmp_path, {1, 2}, **saving)
    checkpoint = str(tmp_path / "checkpoint-8")
    _, rest = overflow(encoder, data, tokenizer, tmp_path, {1, 2}, resume=checkpoint, **saving)
    assert rest.scales == whole.scales[8:]
    for name, weight in rest.weights[-1].items():
        assert torch.allclose(weight, whole.weights[-1][name], atol=1e-5), name


def test_weights_that_are_not_finite_are_not_saved(encoder, data, tokenizer, tmp_path):
    class Broken(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 3:
                next(model.parameters()).data.fill_(torch.nan)

    with pytest.raises(ValueError, match="not finite"):
        train(
            "cuda",
            encoder,
            data,
            tokenizer,
            tmp_path,
            given={"callbacks": [Broken()]},
            fp16=True,
            save_strategy="steps",
            save_steps=4,
        )
    assert not list(tmp_path.glob("checkpoint-*"))
