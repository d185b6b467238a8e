"""Multi-task model: one encoder, many heads."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
from transformers.utils import ModelOutput

from .configuration_multitask import MultiTaskConfig
from .encoder_adapters import AdapterConfig, freeze_adapted
from .encoder_attention import check_attention
from .encoder_base import commit_of
from .encoder_loading import find_model, load_config, load_tokenizer
from .encoder_models import CHECKED_TYPES, check_encoder, is_half, load_encoder
from .encoder_pooling import mean_of_windows, pool
from .encoder_sentence_folder import SentenceSettings, read_sentence_settings, write_sentence_settings
from .encoder_sentences import encode, sentence_settings
from .heads_scope import SCOPE_END
from .hub_card import CARD_NAME, build_model_card
from .hub_errors import explain_encoder_errors, explain_upload_errors, explain_weights_errors
from .losses import count_labeled, count_outliers, example_losses, outlier_losses
from .modeling_adapters import MultiTaskAdapterModel, merged_copy
from .pipeline_multitask import MultiTaskPipeline
from .private_layers import check_one_shares
from .stock_export import single_task_model
from .tasks import TaskConfig
from .tasks_editing import add_task, remove_task, rename_task
from .type_aliases import JsonObject

# End of the key, after the name of a task, of the number of rows out of scope.
OUTLIERS = "_outliers"

# Arguments of from_pretrained that apply to all files of a model on the hub.
HUB_KWARGS = ("revision", "token", "cache_dir")


@dataclass
class MultiTaskOutput(ModelOutput):
    """Output of a `MultiTaskModel`.

    Args:
        loss: Sum of the losses of the tasks, each multiplied by its ``loss_weight``; None without labels.
        logits: Logits by task (batch, num_labels) or (batch, num_words, num_labels); emissions for a task with a CRF.
        losses: Mean loss over the labeled items by task, not weighted; None without labels.
        hidden_states: Hidden states of the encoder, if requested.
        attentions: Attentions of the encoder, if requested.
    """

    loss: torch.Tensor | None = None
    logits: dict[str, torch.Tensor] | None = None
    losses: dict[str, torch.Tensor] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class MultiTaskModel(MultiTaskAdapterModel):
    """A shared encoder with one head per task; one pass of the encoder serves all heads.

    Use `from_encoder` to start from a pretrained encoder, and ``from_pretrained`` to load a saved model.

    Args:
        config: Config; each of its tasks needs its labels.
    """

    @classmethod
    def from_encoder(
        cls,
        name_or_path: str | Path,
        tasks: Sequence[TaskConfig],
        pooling: str | None = None,
        attn_implementation: str | None = None,
        peft_config: AdapterConfig | None = None,
        **kwargs: Any,
    ) -> "MultiTaskModel":
        """Put new heads on a pretrained encoder.

        Args:
            name_or_path: Hub name or folder of the encoder.
            tasks: Tasks, each with its labels.
            pooling: Pooling of the token states; see `encoder_pooling.pool`. Defaults to the encoder's own pooling.
            attn_implementation: ``"sdpa"``, ``"eager"``, or ``"flash_attention_2"``, which skips padding. Defaults to
                the encoder's own implementation.
            peft_config: Config of an adapter of PEFT, such as ``LoraConfig(r=8)``; see `add_adapter`.
            kwargs: Passed to ``AutoModel.from_pretrained``, such as ``revision``.

        Returns:
            The model, with new heads, in float32 unless ``dtype`` is given.

        Raises:
            ValueError: If the encoder cannot be loaded, its pooling is not supported, its pooling is not known because
                the hub is out of reach (give ``pooling``), the attention implementation is not available, or the
                encoder cannot have the private layers of the tasks.
        """
        check_one_shares(tasks)
        source = find_model(name_or_path)
        hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
        encoder_config = load_config(source, **hub_kwargs)  # first: a name that is misspelt has no pooling either
        settings = read_sentence_settings(source, **hub_kwargs) if pooling is None else SentenceSettings(pooling)
        if isinstance(encoder_config, MultiTaskConfig):
            raise ValueError(
                f"{name_or_path}: expected an encoder, found a multi-task model; load it with from_pretrained, and "
                "change its tasks with add_task and remove_task."
            )
        if attn_implementation is not None:
            check_attention(encoder_config, attn_implementation)
            kwargs["attn_implementation"] = attn_implementation
        with explain_encoder_errors(source, **hub_kwargs):
            # Code of the repository is not run, also where transformers has a class of its own for the type.
            options = {"dtype": torch.float32, **kwargs, "trust_remote_code": False}
            encoder = load_encoder(source, encoder_config, **options)
        if encoder_config.model_type not in CHECKED_TYPES:
            check_encoder(name_or_path, encoder, encoder_config)
        encoder.config.name_or_path = str(name_or_path)
        config = MultiTaskConfig(
            encoder_config=encoder.config,
            tasks=list(tasks),
            pooling=settings.pooling,
            normalize_embeddings=settings.normalize,
            prompts=settings.prompts,
            default_prompt_name=settings.default_prompt_name,
            include_prompt=settings.include_prompt,
            truncate_dim=settings.truncate_dim,
            initializer_range=getattr(encoder.config, "initializer_range", 0.02),
            # a keyword of PreTrainedConfig.__post_init__
            attn_implementation=encoder.config._attn_implementation,  # type: ignore[call-arg]
        )
        # transformers wraps `to` in a way that loses the type of its receiver.
        model = cls(config).to(encoder.dtype)  # type: ignore[arg-type]
        model.set_encoder(encoder)
        model.name_or_path = source
        model.encoder_revision = commit_of(source, kwargs.get("revision"), kwargs.get("cache_dir"))
        if private := [task for task in tasks if task.private_layers]:
            model.check_private_layers(private)
        if peft_config is not None:
            model.add_adapter(peft_config)
        return model

    @classmethod
    def from_pretrained(  # its other keyword arguments are among kwargs
        cls, pretrained_model_name_or_path: str | PathLike | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a saved model as ``PreTrainedModel`` does, but only from safetensors.

        Args:
            pretrained_model_name_or_path: Folder or hub name.
            model_args: See ``PreTrainedModel.from_pretrained``.
            kwargs: See ``PreTrainedModel.from_pretrained``, such as ``revision`` and ``token``.

        Returns:
            The model, in eval mode.

        Raises:
            ValueError: If it is another kind of model, or some of its weights are missing, damaged or only available
                as a pickle. With ``output_loading_info=True`` or ``ignore_mismatched_sizes=True`` missing weights are
                new, as with transformers.
            OSError: If the model does not exist.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
        with explain_weights_errors(str(pretrained_model_name_or_path), **hub_kwargs):
            source, kwargs = cls._complete(pretrained_model_name_or_path, kwargs, hub_kwargs)
            options = {**kwargs, "use_safetensors": True, "output_loading_info": True}
            loaded: Any = super().from_pretrained(source, *model_args, **options)
        model, info = loaded
        missing = sorted(info["missing_keys"])
        # Without a path, the caller gives the weights that there are.
        is_whole = pretrained_model_name_or_path is not None and not kwargs.get("ignore_mismatched_sizes")
        if missing and is_whole and not wants_info:
            raise ValueError(
                f"{pretrained_model_name_or_path}: the file of weights lacks {len(missing)} of them: "
                f"{', '.join(missing[:3])}."
            )
        if source is None and pretrained_model_name_or_path is not None:
            model.name_or_path = model.config.name_or_path = str(pretrained_model_name_or_path)
        # Loading sets new weights, all of which would train.
        freeze_adapted(model.encoder)
        return (model, info) if wants_info else model

    @classmethod
    def _complete(
        cls, path: str | PathLike | None, kwargs: JsonObject, hub_kwargs: JsonObject
    ) -> tuple[str | PathLike | None, JsonObject]:
        """Return where to load from, and the arguments: of a model that has left weights to its base, all weights."""
        if path is None or kwargs.get("state_dict") is not None:
            return path, kwargs
        config = kwargs.get("config")
        if not isinstance(config, MultiTaskConfig):
            values, _ = MultiTaskConfig.get_config_dict(path, **hub_kwargs)
            if values.get("base_encoder") is None:
                return path, kwargs
            rest = {key: value for key, value in kwargs.items() if key not in ("config", *HUB_KWARGS)}
            config, kwargs = cls.config_class.from_pretrained(path, return_unused_kwargs=True, **hub_kwargs, **rest)
        if config.base_encoder is None:
            return path, kwargs
        state = cls._with_base(path, config, config.base_encoder, **hub_kwargs)
        kwargs = {key: value for key, value in kwargs.items() if key not in HUB_KWARGS}
        return None, {**kwargs, "config": config, "state_dict": state}

    def save_pretrained(
        self, save_directory: str | PathLike, is_main_process: bool = True, *args: Any, **kwargs: Any
    ) -> None:
        """Save as ``PreTrainedModel`` does, with the code that ``trust_remote_code=True`` runs without this package.

        Args:
            save_directory: Folder to write to.
            is_main_process: Whether this process writes what is not sharded.
            args: See ``PreTrainedModel.save_pretrained``.
            kwargs: See ``PreTrainedModel.save_pretrained``.
        """
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        if is_main_process and self.is_remote_code():
            custom_object_save(MultiTaskPipeline, save_directory)

    @contextmanager
    def saved_without_code(self) -> Iterator[None]:
        """Let ``save_pretrained`` leave out the code in this context, as for checkpoints, which this package loads."""
        config = self.config
        auto_map = config.__dict__.pop("auto_map", None)
        # save_pretrained asks the instances, although these are attributes of their classes.
        self.__dict__["is_remote_code"] = lambda: False
        config.__dict__["_auto_class"] = None
        try:
            yield
        finally:
            del self.__dict__["is_remote_code"], config.__dict__["_auto_class"]
            if auto_map is not None:
                config.auto_map = auto_map

    def _upload_modified_files(self, working_dir: str | PathLike, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """Upload as ``PreTrainedModel.push_to_hub`` does, and add a model card if the repository has none."""
        self.check_pushable()
        with explain_upload_errors(repo_id):
            if not HfApi().file_exists(repo_id, CARD_NAME, token=kwargs.get("token")):
                card = build_model_card(self.config, repo_id, tags=self.model_tags)
                card.save(Path(working_dir, CARD_NAME))
            return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

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
        packed: bool = False,
        return_dict: bool | None = None,
        output_hidden_states: bool | Sequence[int] | None = None,
        output_attentions: bool | Sequence[int] | None = None,
        **encoder_kwargs: Any,
    ) -> MultiTaskOutput | tuple:
        """Run the encoder once, and every head on its states.

        Args:
            input_ids: Token ids (batch, seq_len).
            attention_mask: 1 for tokens, 0 for padding (batch, seq_len).
            token_type_ids: Segment ids (batch, seq_len), for encoders that use them.
            inputs_embeds: Embeddings (batch, seq_len, hidden) instead of ``input_ids``.
            tag_positions: For token tasks, the index of each word's subword (batch, num_words); -1 for words without a
                subword and for padding. If None, every token of the sequence counts as a word.
            row_windows: If rows are cut into windows, the mask of the windows of each row (batch, num_windows). The
                inputs above are then (num_windows, seq_len) instead of (batch, seq_len), and ``tag_positions`` count
                through all windows. For a sequence task, the logits of a row are the mean of the logits of its
                windows, weighted by their numbers of tokens.
            labels: Labels by task, as the collator makes them; see `losses.example_losses`.
            num_items_in_batch: Number of labeled items by task that the loss is divided by: the items of the whole
                accumulated batch on all processes; and by ``<task>_outliers`` the number of rows out of scope.
                Defaults to those of this batch.
            stored_states: States of the encoder (batch, seq_len, hidden), as `states_entering` returns them. Layers
                below the group that they enter do not run.
            entering: Group that ``stored_states`` enter.
            tasks: Names of the tasks whose heads run; all tasks if None.
            packed: Whether short texts may share a row of the encoder, instead of padding: on the CPU, with encoders
                that `encoder_packing.can_pack` accepts. Without dropout, logits are the same up to rounding.
            return_dict: Whether to return a `MultiTaskOutput` instead of a tuple. Defaults to the config's, True.
            output_hidden_states: Whether to return the hidden states of the encoder, or of which layers. Defaults to
                the config's, False.
            output_attentions: Whether to return the attentions of the encoder, or of which layers. Defaults to the
                config's, False.
            encoder_kwargs: Passed to the encoder.

        Returns:
            The logits by task and, with labels, the losses.

        Raises:
            ValueError: If ``stored_states`` are given for a task with ``mix_layers``, or they cannot enter a group.
        """
        inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids, "inputs_embeds": inputs_embeds}
        inputs = {"attention_mask": attention_mask, **inputs}
        given = {name: value for name, value in inputs.items() if value is not None}
        chosen = self._chosen(tasks)
        encoder_kwargs |= self._requested_outputs(output_hidden_states, output_attentions, stored_states is None)
        encoded = self._run_encoder(given, encoder_kwargs, chosen, row_windows, stored_states, entering, packed)
        states, own = encoded["last_hidden_state"], encoded.get("task_states")
        logits = self.apply_heads(states, attention_mask, tag_positions, row_windows, tasks, own)
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
        if return_dict is None:
            return_dict = self.config.return_dict
        return output.to_tuple() if return_dict is False else output

    def _requested_outputs(
        self, hidden_states: bool | Sequence[int] | None, attentions: bool | Sequence[int] | None, is_complete: bool
    ) -> dict[str, bool | Sequence[int]]:
        """Return what the encoder is asked to return: what the caller says or, in a complete pass, the config."""
        requested = {"output_hidden_states": hidden_states, "output_attentions": attentions}
        if is_complete:
            # False in the model's config leaves it to the encoder's.
            defaults = {name: getattr(self.config, name) or None for name in requested}
            requested = {name: defaults[name] if value is None else value for name, value in requested.items()}
        return {name: value for name, value in requested.items() if value is not None}

    def apply_heads(
        self,
        states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        tag_positions: torch.Tensor | None,
        row_windows: torch.Tensor | None = None,
        tasks: Sequence[str] | None = None,
        task_states: Mapping[str, torch.Tensor] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Map the encoder's states to the logits of the tasks.

        Args:
            states: Token states (batch, seq_len, hidden).
            attention_mask: See `forward`.
            tag_positions: See `forward`.
            row_windows: See `forward`.
            tasks: See `forward`.
            task_states: Token states that the head reads instead of ``states``, by task with ``private_layers`` or
                ``mix_layers``.

        Returns:
            Logits by task (batch, num_labels) or (batch, num_words, num_labels); in eval mode, by ``<task>.scope`` the
            statistic (batch,) of a task that abstains by its pooled states.

        Raises:
            ValueError: If the states of such a task are missing.
        """
        pooled = pool(states, attention_mask, self.config.pooling)
        words = gather_words(states, tag_positions, row_windows)
        present = None if tag_positions is None else tag_positions >= 0
        logits, statistics = {}, {} if self.training else self.scope_statistics
        for task in self._chosen(tasks):
            head, own = self.heads[task.name], (task_states or {}).get(task.name)
            if own is None and (task.private_layers or task.mix_layers):
                field = "private_layers" if task.private_layers else "mix_layers"
                raise ValueError(f"task_states: task {task.name!r} has {field}, found no states for it.")
            if task.is_token_task:
                word_states = words if own is None else gather_words(own, tag_positions, row_windows)
                logits[task.name] = head(word_states, present)
                continue
            of_text = pooled if own is None else pool(own, attention_mask, self.config.pooling)
            logits[task.name] = head(of_text)
            if row_windows is not None:
                logits[task.name] = mean_of_windows(logits[task.name], attention_mask, row_windows)
            if task.name in statistics:
                of_rows = of_text if row_windows is None else mean_of_windows(of_text, attention_mask, row_windows)
                logits[f"{task.name}{SCOPE_END}"] = statistics[task.name](of_rows)
        return logits

    def _chosen(self, tasks: Sequence[str] | None) -> list[TaskConfig]:
        return [task for task in self.config.tasks if tasks is None or task.name in tasks]

    def encode(
        self,
        sentences: str | Sequence[str],
        tokenizer: PreTrainedTokenizerBase | None = None,
        batch_size: int = 32,
        prompt_name: str | None = None,
    ) -> torch.Tensor:
        """Embed sentences, as sentence-transformers would with this encoder.

        Args:
            sentences: One sentence or several.
            tokenizer: Tokenizer of the encoder. Defaults to the one in the model's folder or hub repository.
            batch_size: Number of sentences per pass.
            prompt_name: Name of the prompt that goes before each sentence, such as ``"query"``. Defaults to the
                encoder's default prompt, if it has one.

        Returns:
            Vectors (num_sentences, hidden), or (hidden,) for one sentence.

        Raises:
            ValueError: If the encoder has no such prompt.
        """
        if isinstance(sentences, str):
            return self.encode([sentences], tokenizer, batch_size, prompt_name)[0]
        tokenizer = tokenizer or load_tokenizer(str(self.name_or_path))
        return encode(self, list(sentences), tokenizer, batch_size, prompt_name)

    def add_task(self, task: TaskConfig, peft_config: AdapterConfig | None = None) -> None:
        """Add a task with a new head. The other heads do not change.

        With ``peft_config``, the task has an adapter of its own, with the name of the task, which runs and trains from
        now on. After ``set_adapter`` with the name of another adapter, or after `disable_adapters` if there was none,
        the other tasks have the logits that they had before.

        A trainer, its data and pipelines that were built for the old tasks must be built again; an old trainer refuses
        to train and to evaluate. The same applies to `remove_task` and `rename_task`.

        Args:
            task: Task with its labels.
            peft_config: Config of the adapter of the task; see `add_adapter`. None without one.

        Raises:
            ValueError: If the model already has a task or an adapter of this name, the task has no labels, or it reads
                another subword of a word than the model's token tasks.
        """
        if peft_config is not None:
            self.add_adapter(peft_config, task.name)
        add_task(self, task)

    def remove_task(self, name: str) -> None:
        """Remove a task and its head; see `add_task`.

        Args:
            name: Name of the task.

        Raises:
            ValueError: If the model has no such task, or no other task.
        """
        remove_task(self, name)

    def rename_task(self, old: str, new: str) -> None:
        """Rename a task; its head and the column of its labels stay the same. See `add_task`.

        Args:
            old: Name of the task.
            new: New name of the task.

        Raises:
            ValueError: If the model has no such task, or the new name is in use or not allowed.
        """
        rename_task(self, old, new)

    def export_task(
        self, name: str, save_directory: str | Path | None = None, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> PreTrainedModel:
        """Export one task as a stock model with the same scores, such as ``BertForTokenClassification``.

        For a token task, the stock model has logits per token; the logits of a word are those of its first or last
        subword. A sequence task can only be exported with ``pooling="cls"``, and not from every encoder, because the
        heads of stock models have an additional layer. It is set to pass the states through unchanged: such a model is
        for prediction, not for further training. Stock models have scores and no rules about answers: a warning says
        that ``abstain`` or ``min_score`` of the task is lost.

        Args:
            name: Name of the task.
            save_directory: Folder to save the stock model and the tokenizer to.
            tokenizer: Tokenizer. Defaults to the one in the model's folder or hub repository.

        Returns:
            The stock model, in eval mode, with its own copy of the weights.

        Raises:
            ValueError: If the model has no such task, or no stock model computes the same as its head. The message
                gives the reason and an alternative.
        """
        stock = single_task_model(merged_copy(self), name)
        if save_directory is not None:
            (tokenizer or load_tokenizer(str(self.name_or_path))).save_pretrained(save_directory)
            stock.save_pretrained(save_directory)
        return stock

    def export_encoder(self, save_directory: str | Path, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        """Save the encoder as a sentence-transformers folder that gives the same vectors as `encode`.

        Args:
            save_directory: Folder to write to.
            tokenizer: Tokenizer. Defaults to the one in the model's folder or hub repository.

        Raises:
            ValueError: If the encoder is half of a model such as BART, which sentence-transformers loads as a whole.
        """
        if is_half(self.encoder.config):
            raise ValueError(
                f"export_encoder: sentence-transformers loads a model of type {self.encoder.config.model_type!r} with "
                "its decoder, and would give other vectors. Use encode of the saved multi-task model."
            )
        tokenizer = tokenizer or load_tokenizer(str(self.name_or_path))
        tokenizer.save_pretrained(save_directory)
        merged_copy(self).encoder.save_pretrained(save_directory)
        limit = tokenizer.model_max_length if tokenizer.model_max_length < VERY_LARGE_INTEGER else None
        settings = sentence_settings(self.config)
        # The encoder has none, which transformers would replace by a new one and warn.
        without_pooler = "add_pooling_layer" in inspect.signature(type(self.encoder).__init__).parameters
        model_args = {"add_pooling_layer": False} if without_pooler else {}
        write_sentence_settings(save_directory, settings, self.encoder.config.hidden_size, limit, model_args)

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
            # A loss of zero that still depends on the head: DDP waits for the gradient of each parameter.
            tensors = [logits, *(() if crf is None else crf.parameters())]
            return torch.stack([tensor.float().sum() * 0.0 for tensor in tensors]).sum()
        targets = labels[task.name]
        counts = num_items_in_batch or {}
        count = counts[task.name] if counts else count_labeled(task, targets).sum()
        loss = example_losses(task, logits, targets, tag_positions, crf).sum() / count.clamp(min=1)
        if not task.has_scope or task.outlier_weight == 0:
            return loss
        outliers = counts.get(f"{task.name}{OUTLIERS}", count_outliers(task, targets))
        return loss + task.outlier_weight * outlier_losses(task, logits, targets).sum() / outliers.clamp(min=1)


def gather_words(
    states: torch.Tensor, tag_positions: torch.Tensor | None, row_windows: torch.Tensor | None
) -> torch.Tensor:
    """Return the states of the words (batch, num_words, hidden); for a word without a subword, any state."""
    if tag_positions is None:
        return states
    if row_windows is not None:
        return states.flatten(0, 1)[tag_positions.clamp(min=0)]
    return states.gather(1, tag_positions.clamp(min=0).unsqueeze(-1).expand(-1, -1, states.size(-1)))


# A saved model contains its code.
MultiTaskConfig.register_for_auto_class()
MultiTaskModel.register_for_auto_class("AutoModel")
