"""One encoder, many heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from torch import nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers import initialization as init
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_outputs import BaseModelOutput
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
from transformers.utils import ModelOutput

from .configuration_multitask import MultiTaskConfig
from .encoder_attention import build_attention_masks, check_attention
from .encoder_dropout import use_quick_dropout
from .encoder_loading import find_model, load_config, load_tokenizer
from .encoder_partial_forward import HEADS, PartialForward
from .encoder_pooling import SentencePooling, mean_of_windows, pool, read_sentence_pooling, write_sentence_pooling
from .heads import LayerMix, LinearHead, build_head
from .heads_crf import CRF
from .hub_card import CARD_NAME, build_model_card
from .hub_errors import upload_explained, weights_explained
from .layer_groups import LayerGroups, layer_groups
from .losses import count_labelled, example_losses
from .pipeline_multitask import MultiTaskPipeline
from .stock_export import single_task_model
from .tasks import TaskConfig
from .tasks_editing import add_task, remove_task, rename_task

# Windows of long texts that are encoded at a time without gradients, however few rows they belong to.
MIN_WINDOWS_PER_PASS = 8

# What says where on the hub and as whom, for all files of a model.
HUB_KWARGS = ("revision", "token", "cache_dir")


@dataclass
class MultiTaskOutput(ModelOutput):
    """What a `MultiTaskModel` returns.

    Args:
        loss: Sum of the tasks' losses, each times its ``loss_weight``; None without labels.
        logits: By task, (batch, num_labels) or (batch, num_words, num_labels); of a task with a CRF, its emissions.
        losses: By task, the mean over the labelled items, not weighted; None without labels.
        hidden_states: The encoder's hidden states, where asked for.
        attentions: The encoder's attentions, where asked for.
    """

    loss: torch.Tensor | None = None
    logits: dict[str, torch.Tensor] | None = None
    losses: dict[str, torch.Tensor] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class EncoderOutput(BaseModelOutput):
    """What the encoder returns, and what heads make of the states of all its layers.

    Args:
        mixed_states: By task with ``mix_layers``, the states (batch, seq_len, hidden) that its head reads.
    """

    mixed_states: dict[str, torch.Tensor] | None = None


class MultiTaskModel(PreTrainedModel):
    """A shared encoder with one head a task; the encoder runs once for all of them.

    Build it with `from_encoder` to start from a pretrained encoder, with ``from_pretrained`` to load a saved one.

    Args:
        config: The config; each of its tasks needs its labels.
    """

    config_class = MultiTaskConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    accepts_loss_kwargs = True
    supports_gradient_checkpointing = True
    # The encoder decides which attention it has: it checks the choice itself when it is built.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: MultiTaskConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.encoder_config)
        _drop_pooler(self.encoder)
        use_quick_dropout(self.encoder)
        size = (self.encoder.config.hidden_size, self.encoder.config.num_hidden_layers)
        self.heads = nn.ModuleDict({task.name: build_head(task, *size) for task in config.tasks})
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        name_or_path: str | Path,
        tasks: Sequence[TaskConfig],
        pooling: str | None = None,
        attn_implementation: str | None = None,
        **kwargs: Any,
    ) -> "MultiTaskModel":
        """Put new heads on a pretrained encoder.

        Args:
            name_or_path: Hub name or folder of the encoder.
            tasks: The tasks, each with its labels.
            pooling: ``"mean"``, ``"cls"`` or ``"max"``; the encoder's own where None.
            attn_implementation: ``"sdpa"``, ``"eager"``, or ``"flash_attention_2"``, which leaves padding out; the
                encoder's own where None.
            kwargs: Passed to ``AutoModel.from_pretrained``, such as ``revision``.

        Returns:
            The model, with new heads, in float32 unless ``dtype`` says otherwise.

        Raises:
            ValueError: If there is no such encoder, or it pools in a way that is not supported or, with the hub out
                of reach, not known (give ``pooling`` then), or the attention is not there.
        """
        source = find_model(name_or_path)
        hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
        sentence_pooling = (
            read_sentence_pooling(source, **hub_kwargs) if pooling is None else SentencePooling(mode=pooling)
        )
        encoder_config = load_config(source, **hub_kwargs)
        if isinstance(encoder_config, MultiTaskConfig):
            raise ValueError(
                f"{name_or_path}: expected an encoder, found a multi-task model; load it with from_pretrained, and "
                "change its tasks with add_task and remove_task."
            )
        if attn_implementation is not None:
            check_attention(encoder_config, attn_implementation)
            kwargs["attn_implementation"] = attn_implementation
        encoder = AutoModel.from_pretrained(source, config=encoder_config, **{"dtype": torch.float32, **kwargs})
        _drop_pooler(encoder)
        use_quick_dropout(encoder)
        encoder.config.name_or_path = str(name_or_path)
        config = MultiTaskConfig(
            encoder_config=encoder.config,
            tasks=list(tasks),
            pooling=sentence_pooling.mode,
            normalize_embeddings=sentence_pooling.normalize,
            initializer_range=getattr(encoder.config, "initializer_range", 0.02),
            attn_implementation=encoder.config._attn_implementation,
        )
        model = cls(config).to(encoder.dtype)
        model.encoder = encoder
        model.name_or_path = source
        return model

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path | None, *args: Any, **kwargs: Any) -> Any:
        """Load a saved model as ``PreTrainedModel`` does, but from safetensors alone.

        Args:
            name_or_path: Folder or hub name.
            args: See ``PreTrainedModel.from_pretrained``.
            kwargs: The same, such as ``revision`` and ``token``.

        Returns:
            The model, in eval mode.

        Raises:
            ValueError: If it is another kind of model, or its weights are missing, damaged or only there as a pickle.
            OSError: If there is no such model.
        """
        hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
        with weights_explained(str(name_or_path), **hub_kwargs):
            return super().from_pretrained(name_or_path, *args, **{**kwargs, "use_safetensors": True})

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Save as ``PreTrainedModel`` does, with the code that ``trust_remote_code=True`` runs without this package.

        Args:
            save_directory: Folder to write to.
            args: See ``PreTrainedModel.save_pretrained``.
            kwargs: The same.
        """
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            custom_object_save(MultiTaskPipeline, save_directory)

    def _upload_modified_files(self, working_dir: str | Path, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """Upload as ``PreTrainedModel.push_to_hub`` does, with a card of ours where the repository has none."""
        with upload_explained(repo_id):
            if not HfApi().file_exists(repo_id, CARD_NAME, token=kwargs.get("token")):
                card = build_model_card(self.config, repo_id, tags=self.model_tags)
                card.save(Path(working_dir, CARD_NAME))
            return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            super()._init_weights(module)
        elif isinstance(module, LayerMix):
            init.zeros_(module.weights)
            init.ones_(module.scale)
        elif isinstance(module, CRF):
            for weight in module.parameters():
                init.zeros_(weight)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, as ``nn.Module`` does, in a quarter of its time.

        The ``Trainer`` calls it at every step; where only heads train, a walk by names takes as long as their update.

        Args:
            set_to_none: Drop the gradients; set them to zero where False.
        """
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        modules: list[nn.Module | None] = [self]
        while modules:
            module = modules.pop()
            if module is None:
                continue
            modules.extend(module._modules.values())
            for weight in module._parameters.values():
                if weight is not None:
                    weight.grad = None

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        tag_positions: torch.Tensor | None = None,
        row_windows: torch.Tensor | None = None,
        labels: Mapping[str, torch.Tensor] | None = None,
        num_items_in_batch: Mapping[str, torch.Tensor] | None = None,
        stored_states: torch.Tensor | None = None,
        entering: str | None = None,
        tasks: Sequence[str] | None = None,
        return_dict: bool | None = None,
        **encoder_kwargs: Any,
    ) -> MultiTaskOutput | tuple:
        """Run the encoder once and every head on its states.

        Args:
            input_ids: Token ids (batch, seq_len).
            attention_mask: 1 for tokens, 0 for padding (batch, seq_len).
            token_type_ids: Segment ids (batch, seq_len), for encoders that have them.
            inputs_embeds: Embeddings (batch, seq_len, hidden) instead of ``input_ids``.
            tag_positions: For token tasks, the index of each word's subword (batch, num_words); -1 where a word has
                none or the row is padded. Without it, every token of the sequence counts as a word.
            row_windows: Where rows are cut into windows, which are those of each row (batch, num_windows); all that
                is (batch, seq_len) above is then (num_windows, seq_len), and ``tag_positions`` count through all of
                them. A row's logits for a sequence task are the mean of its windows', weighted by their tokens.
            labels: By task, as the collator makes them; see `losses.example_losses`.
            num_items_in_batch: By task, the number of labelled items that the loss is divided by: those of the whole
                accumulated batch on all processes. This batch's own where None.
            stored_states: States of the encoder (batch, seq_len, hidden), as `states_entering` returns them: what lies
                below the group that they enter is not run.
            entering: The group that ``stored_states`` enter.
            tasks: Names of the tasks whose heads are run; all where None.
            return_dict: False for a plain tuple.
            encoder_kwargs: Passed to the encoder, such as ``output_hidden_states``.

        Returns:
            The logits by task and, with labels, the losses.
        """
        inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids, "inputs_embeds": inputs_embeds}
        inputs = {"attention_mask": attention_mask, **inputs}
        given = {name: value for name, value in inputs.items() if value is not None}
        chosen = self._chosen(tasks)
        mixing = [task.name for task in chosen if task.mix_layers]
        if mixing and stored_states is not None:
            raise ValueError(
                f"stored_states: task {mixing[0]!r} has mix_layers, which needs the states of all layers."
            )
        if entering == HEADS:
            encoded: ModelOutput = BaseModelOutput(last_hidden_state=stored_states)
        elif stored_states is not None and entering is not None:
            above = {**build_attention_masks(self.encoder, given), **encoder_kwargs}
            encoded = self.partial_pass.forward_from(stored_states, entering, above)
        elif row_windows is not None and not torch.is_grad_enabled():
            size = max(len(row_windows), MIN_WINDOWS_PER_PASS)
            encoded = self._encode_in_parts(given, encoder_kwargs, size, mixing)
        else:
            encoded = self._encode(given, encoder_kwargs, mixing)
        mixed = encoded.get("mixed_states")
        states = encoded.last_hidden_state
        logits = self.apply_heads(states, attention_mask, tag_positions, row_windows, tasks, mixed)
        loss, losses = None, None
        if labels is not None:
            losses = {
                task.name: self._task_loss(task, logits[task.name], labels, tag_positions, num_items_in_batch)
                for task in chosen
            }
            loss = torch.stack([task.loss_weight * losses[task.name] for task in chosen]).sum()
        output = MultiTaskOutput(
            loss=loss,
            logits=logits,
            losses=losses,
            hidden_states=encoded.get("hidden_states"),
            attentions=encoded.get("attentions"),
        )
        return output.to_tuple() if return_dict is False else output

    @cached_property
    def partial_pass(self) -> PartialForward:
        """What runs a part of the encoder's layers."""
        return PartialForward(self.encoder)

    def states_entering(
        self,
        groups: Sequence[str],
        stored_states: torch.Tensor | None = None,
        entering: str | None = None,
        **encoder_inputs: Any,
    ) -> dict[str, torch.Tensor]:
        """Run the encoder as far as it takes and return the states that enter some of its layer groups.

        Args:
            groups: Names of groups: ``encoder.1`` …, ``encoder.norm``; ``heads`` for what the encoder returns.
            stored_states: States to start from; from the bottom where None.
            entering: The group that ``stored_states`` enter.
            encoder_inputs: What the encoder takes, such as ``input_ids``.

        Returns:
            The states (batch, seq_len, hidden) by group.

        Raises:
            ValueError: If states cannot be taken there. The message names the groups where they can.
        """
        return self.partial_pass.states_entering(groups, encoder_inputs, stored_states, entering)

    def _encode(
        self, inputs: Mapping[str, torch.Tensor], encoder_kwargs: Mapping[str, Any], mixing: Sequence[str]
    ) -> ModelOutput:
        """Run the encoder, and mix the states of its layers for the heads of some tasks."""
        inputs = build_attention_masks(self.encoder, inputs)
        if not mixing:
            return self.encoder(**inputs, **encoder_kwargs)
        encoded = self.encoder(**inputs, **{**encoder_kwargs, "output_hidden_states": True})
        asked_for = encoder_kwargs.get("output_hidden_states", self.encoder.config.output_hidden_states)
        return EncoderOutput(
            last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states if asked_for else None,
            attentions=encoded.get("attentions"),
            mixed_states={name: self.heads.get_submodule(f"{name}.mix")(encoded.hidden_states) for name in mixing},
        )

    def _encode_in_parts(
        self,
        inputs: Mapping[str, torch.Tensor],
        encoder_kwargs: Mapping[str, Any],
        size: int,
        mixing: Sequence[str] = (),
    ) -> ModelOutput:
        """Encode windows ``size`` at a time, so that one long text needs no more memory than a batch of short ones."""
        parts = zip(*(value.split(size) for value in inputs.values()), strict=True)
        batches = [dict(zip(inputs, part, strict=True)) for part in parts]
        outputs = [self._encode(batch, encoder_kwargs, mixing) for batch in batches]
        if len(outputs) == 1:
            return outputs[0]
        joined: dict[str, Any] = {"last_hidden_state": torch.cat([output.last_hidden_state for output in outputs])}
        for name in ("hidden_states", "attentions"):
            if outputs[0].get(name) is not None:
                layers = zip(*(output[name] for output in outputs), strict=True)
                joined[name] = tuple(torch.cat(layer) for layer in layers)
        mixed = {name: torch.cat([output["mixed_states"][name] for output in outputs]) for name in mixing}
        return EncoderOutput(**joined, mixed_states=mixed)

    def apply_heads(
        self,
        states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        tag_positions: torch.Tensor | None,
        row_windows: torch.Tensor | None = None,
        tasks: Sequence[str] | None = None,
        mixed_states: Mapping[str, torch.Tensor] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Map the encoder's states to the tasks' logits.

        Args:
            states: Token states (batch, seq_len, hidden).
            attention_mask: See `forward`.
            tag_positions: See `forward`.
            row_windows: See `forward`.
            tasks: See `forward`.
            mixed_states: By task with ``mix_layers``, the token states that its head reads instead.

        Returns:
            By task, (batch, num_labels) or (batch, num_words, num_labels).

        Raises:
            ValueError: If the mixed states of a task are missing.
        """
        pooled = pool(states, attention_mask, self.config.pooling)
        words = _gather_words(states, tag_positions, row_windows)
        present = None if tag_positions is None else tag_positions >= 0
        logits = {}
        for task in self._chosen(tasks):
            head = self.heads[task.name]
            if task.is_token_task:
                own = words
                if task.mix_layers:
                    mixed = (mixed_states or {}).get(task.name)
                    if mixed is None:
                        raise ValueError(f"mixed_states: task {task.name!r} has mix_layers, found no states for it.")
                    own = _gather_words(mixed, tag_positions, row_windows)
                logits[task.name] = head(own, present)
                continue
            logits[task.name] = head(pooled)
            if row_windows is not None:
                logits[task.name] = mean_of_windows(logits[task.name], attention_mask, row_windows)
        return logits

    @property
    def crfs(self) -> dict[str, CRF]:
        """The CRFs of the tasks that have one: what `decoding.decode` needs beside their logits."""
        heads = ((name, head.crf) for name, head in self.heads.items() if isinstance(head, LinearHead))
        return {name: crf for name, crf in heads if crf is not None}

    def _chosen(self, tasks: Sequence[str] | None) -> list[TaskConfig]:
        return [task for task in self.config.tasks if tasks is None or task.name in tasks]

    def layer_groups(self) -> LayerGroups:
        """Return the groups that can be frozen, from the bottom up; printed, they are a table."""
        return layer_groups(self)

    @torch.no_grad()
    def encode(
        self,
        sentences: str | Sequence[str],
        tokenizer: PreTrainedTokenizerBase | None = None,
        batch_size: int = 32,
    ) -> torch.Tensor:
        """Embed sentences, as sentence-transformers would with this encoder.

        Args:
            sentences: One sentence or several.
            tokenizer: The encoder's tokenizer; loaded from where the model came from if None.
            batch_size: Sentences a pass.

        Returns:
            Vectors (num_sentences, hidden), or (hidden,) for one sentence.
        """
        if isinstance(sentences, str):
            return self.encode([sentences], tokenizer, batch_size)[0]
        tokenizer = tokenizer or load_tokenizer(self.name_or_path)
        was_training = self.training
        self.eval()
        vectors = []
        for start in range(0, len(sentences), batch_size):
            batch = tokenizer(
                list(sentences[start : start + batch_size]), padding=True, truncation=True, return_tensors="pt"
            ).to(self.device)
            states = self.encoder(**batch).last_hidden_state
            vectors.append(pool(states, batch["attention_mask"], self.config.pooling))
        self.train(was_training)
        if not vectors:
            return torch.empty(0, self.encoder.config.hidden_size, device=self.device)
        embeddings = torch.cat(vectors)
        return functional.normalize(embeddings, dim=1) if self.config.normalize_embeddings else embeddings

    def add_task(self, task: TaskConfig) -> None:
        """Put a new head on the encoder; the other heads stay as they are.

        What was built for the tasks before - a trainer, its data, a pipeline - is to be built anew; a trainer that was
        not refuses to train and to evaluate. The same goes for `remove_task` and `rename_task`.

        Args:
            task: The task, with its labels.

        Raises:
            ValueError: If the model has a task of that name, the task has no labels, or it reads another subword of a
                word than the model's token tasks.
        """
        add_task(self, task)

    def remove_task(self, name: str) -> None:
        """Remove a task and its head; see `add_task`.

        Args:
            name: Name of the task.

        Raises:
            ValueError: If there is no such task, or it is the last one.
        """
        remove_task(self, name)

    def rename_task(self, old: str, new: str) -> None:
        """Give a task another name; its head and the column of its labels stay. See `add_task`.

        Args:
            old: Name of the task.
            new: Its new name.

        Raises:
            ValueError: If there is no such task, or the new name is taken or not allowed.
        """
        rename_task(self, old, new)

    def export_task(
        self, name: str, save_directory: str | Path | None = None, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> PreTrainedModel:
        """Make a stock model of one task, such as ``BertForTokenClassification``, which computes the same logits.

        Those of a token task are one a token; a word's are those of its first or last subword. A sequence task can be
        a stock model only with ``pooling="cls"`` and not with every encoder, because the heads of stock models have a
        layer more: it is set to let the states through, which is for predicting and not for training further.

        Args:
            name: Name of the task.
            save_directory: Folder to save the stock model and the tokenizer to.
            tokenizer: The tokenizer; loaded from where the model came from if None.

        Returns:
            The stock model, in eval mode, with weights of its own.

        Raises:
            ValueError: If there is no such task, or no stock model computes what its head does. The message says why
                and what to use instead.
        """
        stock = single_task_model(self, name)
        if save_directory is not None:
            (tokenizer or load_tokenizer(self.name_or_path)).save_pretrained(save_directory)
            stock.save_pretrained(save_directory)
        return stock

    def export_encoder(self, save_directory: str | Path, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        """Save the encoder as a folder that sentence-transformers loads; its vectors are those of `encode`.

        Args:
            save_directory: Folder to write to.
            tokenizer: The tokenizer; loaded from where the model came from if None.
        """
        tokenizer = tokenizer or load_tokenizer(self.name_or_path)
        tokenizer.save_pretrained(save_directory)
        self.encoder.save_pretrained(save_directory)
        pooling = SentencePooling(self.config.pooling, self.config.normalize_embeddings)
        limit = tokenizer.model_max_length if tokenizer.model_max_length < VERY_LARGE_INTEGER else None
        write_sentence_pooling(save_directory, pooling, self.encoder.config.hidden_size, limit)

    def _task_loss(
        self,
        task: TaskConfig,
        logits: torch.Tensor,
        labels: Mapping[str, torch.Tensor],
        tag_positions: torch.Tensor | None,
        num_items_in_batch: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        crf = self.crfs.get(task.name)
        if task.name not in labels:
            # Still a function of the head: DDP waits for the gradient of each of its parameters.
            touched = [logits, *(() if crf is None else crf.parameters())]
            return torch.stack([part.float().sum() * 0.0 for part in touched]).sum()
        targets = labels[task.name]
        count = count_labelled(task, targets).sum() if num_items_in_batch is None else num_items_in_batch[task.name]
        return example_losses(task, logits, targets, tag_positions, crf).sum() / count.clamp(min=1)


def _gather_words(
    states: torch.Tensor, tag_positions: torch.Tensor | None, row_windows: torch.Tensor | None
) -> torch.Tensor:
    """Return the states of the words (batch, num_words, hidden); some token's where a word has none of its own."""
    if tag_positions is None:
        return states
    if row_windows is not None:
        return states.flatten(0, 1)[tag_positions.clamp(min=0)]
    return states.gather(1, tag_positions.clamp(min=0).unsqueeze(-1).expand(-1, -1, states.size(-1)))


def _drop_pooler(encoder: PreTrainedModel) -> None:
    """Remove a pooler that no head uses: its weights would never train and DDP would wait for them."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None


# A saved model carries its code.
MultiTaskConfig.register_for_auto_class()
MultiTaskModel.register_for_auto_class("AutoModel")
