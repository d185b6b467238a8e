"""Entry point of the recommendation: `recommend_schedule`."""

import math
from collections.abc import Iterable, Sequence

from ..models import MultiTaskConfig, MultiTaskModel, find_model
from ..models.encoder_loading import load_config
from ..models.encoder_vocabulary import check_vocabulary
from ..models.layer_groups import HEAD, LayerGroup, LayerGroups, layer_groups
from ..models.messages import unknown_name_message
from ..probing import probe_layers
from ..runs.config import RunConfig
from .candidates import CandidatePlanner
from .cost_model import CostModel, detect_machine
from .data_facts import collect_facts
from .domain_distance import measure_closeness
from .encoder_catalogue import EncoderSize
from .language import DOMAINS, GENERAL, DomainEvidence, capital_share, find_domain, find_language
from .recommendation import Recommendation
from .rules import Situation


def recommend_schedule(
    config: RunConfig,
    main_task: str | None = None,
    time_budget: float | None = None,
    domain: str | None = None,
    probe: bool = False,
) -> Recommendation:
    """Recommend an encoder, a freeze schedule and learning rates for a config's data, with reasons.

    The data is read as for training, and some rows run through the config's encoder, which must be on this machine or
    available from the hub. No other encoder is loaded.

    Args:
        config: The config. Distance to general text and speed are measured with its encoder.
        main_task: Name of the most important task. If None, the task with the most labeled rows decides.
        time_budget: Maximum duration of the training on this machine, in minutes. If None, there is no limit.
        domain: Domain of the texts: ``"biomedical"``, ``"legal"``, ``"finance"`` or ``"general"``. If None, it is
            detected from the words.
        probe: Whether to probe the config's encoder with the rows first; see `probe_layers`. What it measures takes
            the place of general rules.

    Returns:
        The recommendation.

    Raises:
        ValueError: If the task or the domain is unknown, no training row has a label of a task, the data is invalid,
            or no run fits into the time budget.
    """
    names = [task.name for task in config.tasks]
    if main_task is not None and main_task not in names:
        raise ValueError(f"main_task: {unknown_name_message('task', main_task, names)}")
    if domain is not None and domain not in (*DOMAINS, GENERAL):
        raise ValueError(f"domain: {unknown_name_message('domain', domain, (*DOMAINS, GENERAL))}")
    if time_budget is not None and not 0 < time_budget < math.inf:
        raise ValueError(f"time_budget must be a number of minutes above 0, found {time_budget!r}.")
    device = config.training_arguments().device
    facts = collect_facts(config)
    found = probe_layers(config) if probe else None
    model, tokenizer = load_encoder(config), config.load_tokenizer()
    check_vocabulary(tokenizer, model.config, config.encoder)
    # transformers wraps `to` in a way that loses the type of its receiver.
    model.to(device)  # type: ignore[arg-type]
    closeness, seconds_per_subword = measure_closeness(model, tokenizer, facts)
    size = EncoderSize.of(config.encoder, model.encoder.config, model.encoder.num_parameters())
    situation = Situation(
        facts=facts,
        main_task=main_task,
        closeness=closeness,
        domain=_domain_evidence(domain, facts.texts),
        language=find_language(facts.texts),
        capital_share=capital_share(facts.texts),
        machine=detect_machine(device),
        encoder=size,
        probe=found,
    )
    planner = CandidatePlanner(
        situation, groups_with_heads(model, names), CostModel(seconds_per_subword, size, facts), config.effort
    )
    return planner.recommend(config, time_budget)


def _domain_evidence(domain: str | None, texts: Sequence[str]) -> DomainEvidence | None:
    if domain is None:
        return find_domain(texts)
    return None if domain == GENERAL else DomainEvidence(domain)


def load_encoder(config: RunConfig) -> MultiTaskModel:
    """Load a config's encoder without heads; a saved multi-task model is loaded with its heads."""
    source = find_model(config.encoder)
    if isinstance(load_config(source), MultiTaskConfig):
        return MultiTaskModel.from_pretrained(source)
    return MultiTaskModel.from_encoder(config.encoder, [], config.pooling, config.attn_implementation)


def groups_with_heads(model: MultiTaskModel, tasks: Iterable[str]) -> LayerGroups:
    """Return the layer groups of a run's model: the encoder's, and a head without parameters per task."""
    encoder = [group for group in layer_groups(model) if not group.is_head]
    return LayerGroups([*encoder, *(LayerGroup(f"{HEAD}{task}", {}) for task in tasks)])
