"""Export of one task as a stock model of transformers with the same scores, its temperature in the last layer."""

import copy
import logging

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
from .modeling_base import MultiTaskPreTrainedModel
from .private_layers import put_in_encoder
from .tasks import TaskConfig
from .tasks_editing import find_task
from .type_aliases import JsonObject

logger = logging.getLogger(__name__)

# tanh(x) is x for small x: scaled by this factor, normalized states pass a tanh unchanged in float32. A smaller factor
# would work too, but its inverse must not overflow in float16.
SMALL = 2.0**-14

# Settings in the configs of stock models for the layers before the last one.
SETTINGS: dict[str, JsonObject] = {
    "deberta": {"pooler_hidden_act": "linear"},
    "deberta-v2": {"pooler_hidden_act": "linear"},
    "modernbert": {"classifier_pooling": "cls", "classifier_activation": "linear", "classifier_bias": True},
}

# Maximum difference of logits, relative to the largest logit, that is still rounding.
TOLERANCE = 2e-5


def single_task_model(model: MultiTaskPreTrainedModel, name: str) -> PreTrainedModel:
    """Build the stock model of a task; see `MultiTaskModel.export_task`."""
    task, head = find_task(model.config.tasks, name), model.heads[name]
    if type(head) is not LinearHead or task.mix_layers or task.crf:
        raise _refusal(task, "its head is more than one linear layer on the states of the last layer")
    if not task.is_token_task and model.config.pooling != "cls":
        raise _refusal(
            task,
            f"it reads the {model.config.pooling} of a text's tokens, but stock models read the first one, as with "
            "pooling='cls'",
        )
    stock = _build(_stock_config(model, task), task).float().eval()
    stock.base_model.load_state_dict(model.encoder.state_dict(), strict=False)
    if task.private_layers:
        put_in_encoder(stock.base_model, copy.deepcopy(model.private_layers[name]).float())
    _set_head(stock, model.encoder, head, task)
    _check_logits(stock, head, task)
    _warn_of_answers(task)
    return stock.to(model.device, model.dtype)


def _warn_of_answers(task: TaskConfig) -> None:
    """Say which rules about the answers of a task its stock model does not have."""
    if task.abstention is not None:
        logger.warning("Task %r abstains, but its stock model does not: it gives each text a label.", task.name)
    if task.min_score is not None:
        logger.warning("Task %r has a min_score, but its stock model does not: it gives all entities.", task.name)
    if task.constrained_by:
        logger.warning(
            "Task %r is constrained by %r, but its stock model is not: it may give other types of entities.",
            task.name,
            task.constrained_by,
        )


def _stock_config(model: MultiTaskPreTrainedModel, task: TaskConfig) -> PreTrainedConfig:
    """Return the encoder's config with the task's labels, and without activation if the config has a choice."""
    config = copy.deepcopy(model.encoder.config)
    config.num_labels = task.num_labels
    if task.labels is not None:
        config.id2label, config.label2id = task.id2label, task.label2id
    settings = {"problem_type": task.problem_type, **SETTINGS.get(config.model_type, {})}
    for key, value in settings.items():
        setattr(config, key, value)
    return config


def _build(config: PreTrainedConfig, task: TaskConfig) -> PreTrainedModel:
    auto_class = AutoModelForTokenClassification if task.is_token_task else AutoModelForSequenceClassification
    try:
        return auto_class.from_config(config)
    except ValueError as error:
        raise _refusal(task, f"transformers has no {auto_class.__name__} for {config.model_type!r}") from error


@torch.no_grad()
def _set_head(stock: PreTrainedModel, encoder: PreTrainedModel, head: LinearHead, task: TaskConfig) -> None:
    """Set all layers of a stock model above the encoder so that it computes the same as the head.

    Its last linear layer becomes the head; the linear layers and norms below pass the states through.
    """
    in_encoder = {stock.base_model.get_parameter(name) for name, _ in encoder.named_parameters()}
    # Some stock models for tokens have a pooler that is not used.
    unused = set(stock.base_model.modules()) if task.is_token_task else set()
    layers = [module for module in stock.modules() if isinstance(module, (nn.Linear, nn.LayerNorm))]
    above = [layer for layer in layers if layer.weight not in in_encoder and layer not in unused]
    *linear, classifier = [layer for layer in above if isinstance(layer, nn.Linear)]
    norms = [layer for layer in above if isinstance(layer, nn.LayerNorm)]
    encoder_norm = getattr(stock.base_model, "final_norm", None)
    factor = 1.0
    for layer in linear:
        if norms and encoder_norm is not None:
            _invert_norm(layer, encoder_norm, _input_std(encoder_norm, stock))
        else:
            nn.init.eye_(layer.weight).mul_(SMALL)
            _set_bias(layer, 0.0)
            factor /= SMALL
    if encoder_norm is not None:
        for norm in norms:
            norm.load_state_dict(encoder_norm.state_dict())
    weight, bias = _calibrated_layer(head, task)
    classifier.weight.copy_(weight * factor)
    _set_bias(classifier, bias)


def _calibrated_layer(head: LinearHead, task: TaskConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a head that computes logits divided by the temperature."""
    layer = head.classifier
    return layer.weight.float() / task.temperature, layer.bias.float() / task.temperature


def _set_bias(layer: nn.Linear, bias: torch.Tensor | float) -> None:
    if layer.bias is not None:
        layer.bias.copy_(torch.as_tensor(bias))


def _invert_norm(layer: nn.Linear, norm: nn.LayerNorm, std: float) -> None:
    """Set a linear layer to undo a norm's weight and bias, which a second norm after the layer applies again.

    The second norm does not change normalized states. Its epsilon has the same effect as the first norm's, because its
    input has the same standard deviation.
    """
    scale = std / norm.weight
    layer.weight.copy_(torch.diag(scale))
    _set_bias(layer, 0.0 if norm.bias is None else -scale * norm.bias)


def _input_std(norm: nn.LayerNorm, stock: PreTrainedModel) -> float:
    """Return the standard deviation of the input of a norm of the encoder."""
    variances: list[torch.Tensor] = []
    hook = norm.register_forward_pre_hook(lambda _, inputs: variances.append(inputs[0].var(-1, correction=0).mean()))
    try:
        stock.base_model(_probe_tokens(stock))
    finally:
        hook.remove()
    return float(variances[0].sqrt())


def _probe_tokens(stock: PreTrainedModel) -> torch.Tensor:
    """Return token ids (2, 8) to probe a model with."""
    return torch.arange(16).reshape(2, 8) % stock.config.vocab_size


@torch.no_grad()
def _check_logits(stock: PreTrainedModel, head: LinearHead, task: TaskConfig) -> None:
    """Raise if a stock model computes other logits from the encoder's states than the head."""
    input_ids = _probe_tokens(stock)
    states = stock.base_model(input_ids)[0]
    weight, bias = (tensor.cpu() for tensor in _calibrated_layer(head, task))
    expected = functional.linear(states if task.is_token_task else states[:, 0], weight, bias)
    difference = (stock(input_ids).logits - expected).abs().max().item()
    # Not ">": a NaN must raise too.
    if not difference <= TOLERANCE * expected.abs().max().item():
        raise _refusal(
            task,
            f"the layers of {type(stock).__name__} between the encoder and the labels cannot be set to compute the "
            f"same as one linear layer; the logits differ by {difference:.1g}",
        )


def _refusal(task: TaskConfig, reason: str) -> ValueError:
    return ValueError(
        f"task {task.name!r} cannot be a stock model: {reason}. Instead, save a multi-task model with only this task "
        "(remove_task the others, then save_pretrained), which the multi-task pipeline loads, or the encoder with "
        f"export_encoder and the weights of model.heads[{task.name!r}].classifier."
    )
