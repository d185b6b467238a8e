"""From a config to a recommendation."""

import math
from collections.abc import Iterable

from ..models import MultiTaskConfig, MultiTaskModel, find_model, load_tokenizer
from ..models.encoder_loading import load_config
from ..models.layer_groups import HEAD, LayerGroup, LayerGroups, layer_groups
from ..models.messages import unknown_name_message
from ..runs.config import RunConfig
from .candidates import CandidatePlanner
from .cost_model import CostModel, look_at_machine
from .data_facts import collect_facts
from .domain_distance import measure
from .encoder_catalogue import EncoderSize
from .language import DOMAINS, GENERAL, DomainEvidence, capital_share, find_domain, find_language
from .recommendation import Recommendation
from .rules import Situation


def recommend_schedule(
    config: RunConfig, main_task: str | None = None, time_budget: float | None = None, domain: str | None = None
) -> Recommendation:
    """Recommend an encoder, a freeze schedule and learning rates for a config's data, with reasons.

    The data are read as a training would, and some rows are run through the config's encoder, which must be on this
    machine or within reach; nothing else is loaded.

    Args:
        config: The config. Its encoder is what closeness and speed are measured with.
        main_task: Name of the task that matters most; the one with the most labelled rows decides where None.
        time_budget: Minutes that a training may take on this machine.
        domain: What the texts speak of: ``"biomedical"``, ``"legal"``, ``"finance"`` or ``"general"``; told by their
            words where None.

    Returns:
        The recommendation.

    Raises:
        ValueError: If there is no such task or domain, train has no label of a task, something else in the data is
            wrong, or nothing fits into the time budget.
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
    model = load_encoder(config).to(device)
    closeness, seconds_per_subword = measure(model, load_tokenizer(config.encoder), facts)
    size = EncoderSize.of(config.encoder, model.encoder.config, model.encoder.num_parameters())
    given = None if domain in (None, GENERAL) else DomainEvidence(str(domain))
    situation = Situation(
        facts=facts,
        main_task=main_task,
        closeness=closeness,
        domain=find_domain(facts.texts) if domain is None else given,
        language=find_language(facts.texts),
        capital_share=capital_share(facts.texts),
        machine=look_at_machine(device),
        encoder=size,
    )
    planner = CandidatePlanner(situation, groups_with_heads(model, names), CostModel(seconds_per_subword, size, facts))
    return planner.recommend(config, time_budget)


def load_encoder(config: RunConfig) -> MultiTaskModel:
    """Load a config's encoder, without heads; a multi-task model to go on from as it is."""
    source = find_model(config.encoder)
    if isinstance(load_config(source), MultiTaskConfig):
        return MultiTaskModel.from_pretrained(source)
    return MultiTaskModel.from_encoder(config.encoder, [], config.pooling, config.attn_implementation)


def groups_with_heads(model: MultiTaskModel, tasks: Iterable[str]) -> LayerGroups:
    """Return the groups of a run's model: the encoder's, and a head of unknown weights for each task."""
    encoder = [group for group in layer_groups(model) if not group.is_head]
    return LayerGroups([*encoder, *(LayerGroup(f"{HEAD}{task}", {}) for task in tasks)])
