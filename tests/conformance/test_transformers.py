"""transformers' own tests of models and configs, run on the multi-task model.

Every test runs. One that skips itself, or fails, does so for a reason in `NOT_APPLICABLE`; a listed test that passes
is an error, so that the table stays true.
"""

import unittest
from collections.abc import Callable
from functools import partial

import pytest
import torch
from transformers import BertConfig, ModernBertConfig

from hf_multitask import MultiTaskConfig, MultiTaskModel, TaskConfig
from tests.conformance.source import load_source

pytestmark = pytest.mark.conformance

ModelTesterMixin = load_source("test_modeling_common").ModelTesterMixin
ConfigTester = load_source("test_configuration_common").ConfigTester

# A test may only skip itself for a reason that begins so: where the hardware or the package is there, it has to pass.
NEEDS = "needs "
ACCELERATOR = "needs an accelerator"
FLASH = "needs flash attention and a GPU"
DEEPSPEED = "needs DeepSpeed and a GPU"
KERNELS = "needs the package kernels and an accelerator"
BASE_CLASS = "for classes that transformers registers as the base model of an architecture"
EXPERTS = "for models with experts"
RENAMED = "for models whose weights have other names in files than in the module"
TENSOR_PARALLEL = "for models with a plan of tensor parallelism"

# By the beginning of the names of tests.
NOT_APPLICABLE = {
    "test_can_load_from_already_mapped_keys": RENAMED,
    "test_can_load_with_device_context_manager": ACCELERATOR,
    "test_can_load_with_global_device_set": ACCELERATOR,
    "test_causal_lm_loss_honors_shift_labels": "for language models",
    "test_correct_missing_keys": "loads an encoder as the whole model; from_encoder does that, and is given the tasks",
    "test_cpu_offload": ACCELERATOR,
    "test_disk_offload": ACCELERATOR,
    "test_eager_matches_batched_and_grouped_inference": EXPERTS,
    "test_encoder_decoder_loss_no_double_shift": "for sequence-to-sequence models",
    "test_flash_attn": FLASH,
    "test_flex_attention_with_grads": ACCELERATOR,
    "test_keep_in_fp32_modules": "for models with modules that stay in float32",
    "test_kernels_can_load_without_crashing": KERNELS,
    "test_model_parallelism": "needs several accelerators",
    "test_model_rope": BASE_CLASS,
    "test_moe_models_record_router_logits": EXPERTS,
    "test_output_router_logits_from_config": EXPERTS,
    "test_resize_embeddings_untied_with_deepspeed": DEEPSPEED,
    "test_resize_position_vector_embeddings": "for models that can resize positions; BERT and ModernBERT cannot",
    "test_resize_tokens_embeddings_with_deepspeed": DEEPSPEED,
    "test_reverse_loading_mapping": RENAMED,
    "test_sdpa_can_compile_dynamic": ACCELERATOR,
    "test_sdpa_can_dispatch_composite_models": "for models with a tower for images or sounds",
    "test_sdpa_can_dispatch_non_composite_models": "for models with one config; the test of composite models runs",
    "test_sdpa_can_dispatch_on_flash": ACCELERATOR,
    "test_sliding_window_mask": "for models whose config can switch a sliding window on",
    "test_tied_head_has_a_tp_plan_entry": TENSOR_PARALLEL,
    "test_torch_compile_for_training": ACCELERATOR,
    "test_tp_plan_matches_params": TENSOR_PARALLEL,
    "test_vision_axial_rope": BASE_CLASS,
}

# These read the first output as a tensor. Without labels it is the mapping of logits, with them the loss.
READ_A_TENSOR = ("test_determinism", "test_retain_grad_hidden_states_attentions")

SIZE = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
SPECIAL = {"bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
ENCODERS = {
    "bert": partial(BertConfig, **SIZE),
    "modernbert": partial(ModernBertConfig, **SIZE, **SPECIAL, global_attn_every_n_layers=2, local_attention=8),
}
HEADS = {"linear": {}, "crf": {"crf": True}, "lstm": {"head": "lstm"}, "mixed layers": {"mix_layers": True}}


class MultiTaskModelTester:
    """Configs and inputs for the common tests."""

    batch_size, seq_length = 3, 7
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 4
    is_training = True

    def __init__(self, encoder: str, head: str):
        self.encoder, self.head = encoder, head

    def get_config(self) -> MultiTaskConfig:
        slots = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"], **HEADS[self.head])
        intent = TaskConfig("intent", "sequence_classification", labels=["a", "b"])
        return MultiTaskConfig(encoder_config=ENCODERS[self.encoder](), tasks=[intent, slots])

    def prepare_config_and_inputs_for_common(self) -> tuple[MultiTaskConfig, dict[str, torch.Tensor]]:
        input_ids = torch.randint(3, SIZE["vocab_size"], (self.batch_size, self.seq_length))
        return self.get_config(), {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}

    def make_labels(self, rows: int) -> dict[str, torch.Tensor]:
        return {
            "intent": torch.zeros(rows, dtype=torch.long),
            "slots": torch.zeros(rows, self.seq_length, dtype=torch.long),
        }


def reason_of(name: str) -> str | None:
    """Return the reason why a test does not apply, from its entry with the longest name."""
    entries = [entry for entry in NOT_APPLICABLE if name.startswith(entry)]
    return NOT_APPLICABLE[max(entries, key=len)] if entries else None


def listed(test: Callable[[unittest.TestCase], None]) -> Callable[[unittest.TestCase], None]:
    """Let a test skip, or fail, only for a reason that is listed, and pass only if none is.

    What decorators say about skipping is not taken over from the test: it would skip without being run.
    """
    reason = reason_of(test.__name__)

    def run(case: unittest.TestCase) -> None:
        case.skips = []
        try:
            test(case)
        except unittest.SkipTest as skip:
            case.skips.append(str(skip))
        except Exception:
            if reason is None or reason.startswith(NEEDS):
                raise
            pytest.skip(reason)
        if reason is None:
            assert not case.skips, f"skips itself, but is not in NOT_APPLICABLE: {case.skips}"
        elif case.skips:
            pytest.skip(reason)
        else:
            assert reason.startswith(NEEDS), f"passes, but is in NOT_APPLICABLE: {reason}"

    run.__name__ = test.__name__
    return run


def make_model_test(encoder: str, head: str) -> type[unittest.TestCase]:
    """Return the common tests of models, on an encoder with a kind of head."""

    class ModelTest(ModelTesterMixin, unittest.TestCase):
        all_model_classes = (MultiTaskModel,)
        _is_composite = True
        test_can_init_all_missing_weights_before_2023 = True

        def setUp(self):
            self.model_tester = MultiTaskModelTester(encoder, head)

        # Also called inside of subtests, which keep it to themselves.
        def skipTest(self, reason):  # noqa: N802
            self.skips.append(reason)
            super().skipTest(reason)

        def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
            inputs = super()._prepare_for_class(inputs_dict, model_class)
            if return_labels or self._testMethodName in READ_A_TENSOR:
                inputs["labels"] = self.model_tester.make_labels(len(inputs["input_ids"]))
            return inputs

    for name in dir(ModelTest):
        if name.startswith("test_") and callable(getattr(ModelTest, name)):
            setattr(ModelTest, name, listed(getattr(ModelTest, name)))
    return ModelTest


TestBertLinear, TestBertCRF, TestBertLSTM, TestBertMixedLayers = (make_model_test("bert", head) for head in HEADS)
TestModernBertLinear, TestModernBertCRF, TestModernBertLSTM, TestModernBertMixedLayers = (
    make_model_test("modernbert", head) for head in HEADS
)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("head", HEADS)
def test_config(encoder, head):
    case = unittest.TestCase()
    case.model_tester = MultiTaskModelTester(encoder, head)
    properties = ["hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings", "pad_token_id"]
    tester = ConfigTester(case, config_class=MultiTaskConfig, common_properties=properties)
    tester.run_common_tests()
    # Without values of the caller's, the tester compares nothing of what is written.
    config = case.model_tester.get_config()
    tester.inputs_dict = {"encoder_config": config.encoder_config, "tasks": config.tasks}
    tester.create_and_test_config_to_json_file()
    tester.create_and_test_config_from_and_save_pretrained()
    tester.create_and_test_config_from_and_save_pretrained_subfolder()
    tester.create_and_test_config_from_and_save_pretrained_composite()


def test_every_entry_is_a_test_of_transformers():
    names = [name for name in dir(ModelTesterMixin) if name.startswith("test_")]
    assert [entry for entry in NOT_APPLICABLE if not any(name.startswith(entry) for name in names)] == []
