"""One task of a model as a stock model of transformers, which computes the same logits."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from .heads import LinearHead
from .tasks import TaskConfig
from .tasks_editing import find_task

# A tanh gives back what is small against 1: with this factor in front of it, states of the size that a norm leaves
# come through as they are in float32. A smaller one would do so too, but what undoes it must not overflow in float16.
SMALL = 2.0**-14

# What the configs of stock models leave open about the layers in front of their last one.
SETTINGS: dict[str, dict[str, Any]] = {
    "deberta": {"pooler_hidden_act": "linear"},
    "deberta-v2": {"pooler_hidden_act": "linear"},
    "modernbert": {"classifier_pooling": "cls", "classifier_activation": "linear", "classifier_bias": True},
}

# The largest difference of logits, as a part of the largest logit, that still is rounding.
TOLERANCE = 2e-5


def single_task_model(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """Build the stock model of a task; see `MultiTaskModel.export_task`."""
    task = find_task(model.config.tasks, name)
    if type(model.heads[name]) is not LinearHead or task.mix_layers or task.crf:
        raise _refusal(task, "its head is more than one linear layer on the states of the last layer")
    if not task.is_token_task and model.config.pooling != "cls":
        raise _refusal(
            task,
            f"it reads the {model.config.pooling} of a text's tokens, where stock models read the first one, as with "
            "pooling='cls'",
        )
    stock = _build(_stock_config(model, task), task).float().eval()
    stock.base_model.load_state_dict(model.encoder.state_dict(), strict=False)
    _set_head(stock, model.encoder, model.heads[name], task)
    _check_logits(stock, model, task)
    return stock.to(model.device, model.dtype)


def _stock_config(model: PreTrainedModel, task: TaskConfig) -> PreTrainedConfig:
    """Return the encoder's config with the task's labels, and with no activation where the choice is open."""
    config = copy.deepcopy(model.encoder.config)
    config.num_labels = task.num_labels
    if task.labels is not None:
        config.id2label, config.label2id = task.id2label, task.label2id
    config.problem_type = task.problem_type
    for key, value in SETTINGS.get(config.model_type, {}).items():
        setattr(config, key, value)
    return config


def _build(config: PreTrainedConfig, task: TaskConfig) -> PreTrainedModel:
    kind = AutoModelForTokenClassification if task.is_token_task else AutoModelForSequenceClassification
    try:
        return kind.from_config(config)
    except ValueError as error:
        raise _refusal(task, f"transformers has no {kind.__name__} for {config.model_type!r}") from error


@torch.no_grad()
def _set_head(stock: PreTrainedModel, encoder: PreTrainedModel, head: LinearHead, task: TaskConfig) -> None:
    """Set all that a stock model has above the encoder so that it computes what the head does.

    Its last linear layer becomes the head; the linear layers and norms below are made to let states through.
    """
    held = {stock.base_model.get_parameter(name) for name, _ in encoder.named_parameters()}
    # A pooler that some stock models have beside the tokens' states.
    unread = set(stock.base_model.modules()) if task.is_token_task else set()
    layers = [module for module in stock.modules() if isinstance(module, (nn.Linear, nn.LayerNorm))]
    above = [layer for layer in layers if layer.weight not in held and layer not in unread]
    *linear, classifier = [layer for layer in above if isinstance(layer, nn.Linear)]
    norms = [layer for layer in above if isinstance(layer, nn.LayerNorm)]
    encoder_norm = getattr(stock.base_model, "final_norm", None)
    factor = 1.0
    for layer in linear:
        if norms and encoder_norm is not None:
            _take_back(layer, encoder_norm, _size_in_front_of(encoder_norm, stock))
        else:
            nn.init.eye_(layer.weight).mul_(SMALL)
            _set_bias(layer, 0.0)
            factor /= SMALL
    if encoder_norm is not None:
        for norm in norms:
            norm.load_state_dict(encoder_norm.state_dict())
    classifier.weight.copy_(head.classifier.weight.float() * factor)
    _set_bias(classifier, head.classifier.bias)


def _set_bias(layer: nn.Linear, bias: torch.Tensor | float) -> None:
    if layer.bias is not None:
        layer.bias.copy_(torch.as_tensor(bias))


def _take_back(layer: nn.Linear, norm: nn.LayerNorm, size: float) -> None:
    """Make a linear layer take back a norm's weight and bias, which a second norm behind it gives again.

    What is normed already the second norm leaves as it is, and its epsilon too where it gets values of the same size.
    """
    scale = size / norm.weight
    layer.weight.copy_(torch.diag(scale))
    _set_bias(layer, 0.0 if norm.bias is None else -scale * norm.bias)


def _size_in_front_of(norm: nn.LayerNorm, stock: PreTrainedModel) -> float:
    """Return the standard deviation of the states that a norm of the encoder gets."""
    variances: list[torch.Tensor] = []
    hook = norm.register_forward_pre_hook(lambda _, given: variances.append(given[0].var(-1, correction=0).mean()))
    try:
        stock.base_model(_some_tokens(stock))
    finally:
        hook.remove()
    return float(variances[0].sqrt())


def _some_tokens(stock: PreTrainedModel) -> torch.Tensor:
    """Return token ids (2, 8) to try a model on."""
    return torch.arange(16).reshape(2, 8) % stock.config.vocab_size


@torch.no_grad()
def _check_logits(stock: PreTrainedModel, model: PreTrainedModel, task: TaskConfig) -> None:
    """Refuse a stock model that computes other logits from the encoder's states than the head does."""
    input_ids = _some_tokens(stock)
    states = stock.base_model(input_ids)[0]
    classifier = model.heads[task.name].classifier
    weight, bias = (tensor.float().cpu() for tensor in (classifier.weight, classifier.bias))
    expected = functional.linear(states if task.is_token_task else states[:, 0], weight, bias)
    difference = (stock(input_ids).logits - expected).abs().max().item()
    # A NaN is refused too.
    if not difference <= TOLERANCE * expected.abs().max().item():
        raise _refusal(
            task,
            f"the layers of {type(stock).__name__} between the encoder and the labels cannot be set to compute what "
            f"one linear layer does; the logits differ by {difference:.1g}",
        )


def _refusal(task: TaskConfig, why: str) -> ValueError:
    return ValueError(
        f"task {task.name!r} cannot be a stock model: {why}. Instead, save a multi-task model of this task alone "
        "(remove_task the others, then save_pretrained), which the multi-task pipeline loads, or the encoder by "
        f"export_encoder and the weights of model.heads[{task.name!r}].classifier."
    )
