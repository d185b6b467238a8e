"""Suggestions for names that are misspelt."""

import pytest

from hf_multitask.models.messages import closest_name, unknown_name_message


@pytest.mark.parametrize(
    ("found", "allowed", "closest"),
    [
        ("trian", ["train", "plan"], "train"),
        ("outputt", ["encoder", "tasks", "data", "output_dir"], "output_dir"),
        ("epochs", ["num_train_epochs", "eval_steps"], "num_train_epochs"),
        ("batch_size", ["auto_find_batch", "per_device_train_batch_size"], "per_device_train_batch_size"),
        ("Topic", ["topic"], "topic"),
        ("intent", ["text"], None),
        ("intent", ["text", "intent_label"], "intent_label"),
        ("Weather", ["Other", "Technology"], None),
        ("layer_lr_decay", ["ema_decay", "weight_decay"], None),
        ("does", ["when", "do"], "do"),
        ("valid", ["train", "validation"], "validation"),
        ("PERS", ["B-PER", "O", "I-PER", "PER"], "PER"),
        ("x", ["xyz"], None),
        ("x", [], None),
        (5, ["5"], "5"),
    ],
)
def test_only_near_names_are_suggested(found, allowed, closest):
    assert closest_name(found, allowed) == closest


def test_the_message_names_what_is_allowed():
    message = unknown_name_message("column", "intent", ["text"])
    assert message == "unknown column 'intent'. Allowed: 'text'."
    many = unknown_name_message("column", "x", [f"column {i}" for i in range(25)])
    assert many.endswith(" and 5 more.")
