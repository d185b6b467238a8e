"""Training arguments of the `MultiTaskTrainer`."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PreTrainedConfig, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from ..data import PreparedData
from ..freezing.activation_cache.cache_plan import AUTO, STORE_FROZEN
from ..freezing.activation_cache.settings import CacheSettings
from ..freezing.activation_cache.store import DTYPES
from ..models.messages import unknown_name_message
from ..models.type_aliases import JsonObject
from ..runtime.processes import are_several_on_cpu, is_alone
from .argument_checks import check_ranges, check_supported
from .balancing_methods import METHODS, NONE, read_balancing
from .settings import STANDARD, choose_settings

logger = logging.getLogger(__name__)

HEAD_LEARNING_RATE_FACTOR = 10.0


@dataclass
class MultiTaskTrainingArguments(TrainingArguments):
    """``TrainingArguments`` with a rate for the heads, batches of similar length, and frozen layers computed once.

    Args:
        head_learning_rate: Peak learning rate of the heads; 10 times ``learning_rate`` if None.
        layer_lr_decay: Factor of the encoder's learning rate from each layer to the layer below it, in (0, 1]
            (layer-wise learning rate decay; Howard and Ruder 2018). A stage of a freeze schedule can have its own. All
            layers have ``learning_rate`` if None.
        early_stopping_patience: Number of evaluations without a better ``metric_for_best_model`` after which the
            training stops. It needs ``load_best_model_at_end``. No early stop if None.
        store_frozen: Whether to cache the states of frozen layers on disk: ``"auto"`` if that saves more than it costs
            and there is space, ``"always"``, ``"never"``.
        store_dtype: Type of the cached states: ``"float32"``, ``"bfloat16"`` (computed in it too) or ``"float16"``.
        store_dir: Folder of the cached states, which later runs read too; in the cache of ``datasets`` if None.
        store_max_bytes: Size limit of all cached states in the folder; the least recently used are evicted. Half of
            the free disk if None.
        max_tokens_per_batch: Maximum number of tokens in a batch on each process, padding included: the number of
            rows, or windows, times the length of the longest. A batch has as many rows of similar length as fit, and a
            longer row makes a separate batch. ``per_device_train_batch_size`` is not used then. With several
            processes, evaluation still uses ``per_device_eval_batch_size``, because gathered batches must have equal
            size. Padding to a multiple is not counted. If None, batches have a fixed number of rows.
        ema_decay: Share of the exponential moving average (EMA) of the weights that stays at each optimizer step, in
            (0, 1). The EMA of the weights that train is evaluated and saved; training continues with the weights
            themselves. The share grows with the steps until it is reached: step t keeps at most 1 - 3 / (t + 2). No
            EMA if None.
        word_dropout: Probability that a token of a training row is replaced by the mask token, in [0, 1), while the
            embeddings train; see `WordDropout`.
        packing: Whether short texts of a training batch share a row of the encoder, instead of padding: on the CPU,
            with BERT, RoBERTa and their kin. It pays where a batch has texts of different length, as batches that mix
            datasets do. Losses are the same up to rounding, but dropout is drawn for other rows.
        conflict_steps: Optimizer steps from one comparison of the tasks' gradients on the shared layers to the next;
            see `ConflictCallback`. The training stays the same bit for bit. No comparison if None.
        loss_balancing: Method that weighs the losses of the tasks while they train, or a mapping with its name as
            ``method`` and its options: ``"uncertainty"`` (`Uncertainty`), ``"dwa"`` (`DynamicWeightAverage`),
            ``"famo"`` (`Famo`), ``"random"`` (`RandomWeights`), ``"equal_norm"`` (`EqualNorm`). ``"none"`` is the sum
            of the losses, each times the ``loss_weight`` of its task, which the methods multiply. A mapping with
            ``torchjd``, the name of an aggregator of TorchJD, and its options is about gradients instead; see
            `GradientAggregation`.

    Raises:
        ValueError: If an argument is set that the trainer does not support.
    """

    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the heads; 10 times learning_rate if not given."}
    )
    layer_lr_decay: float | None = field(
        default=None,
        metadata={"help": "Factor of the learning rate from each layer to the one below, such as 0.85."},
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after this many evaluations without a better metric_for_best_model."},
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={"help": "Maximum number of tokens in a batch, padding included, instead of a fixed number of rows."},
    )
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={"help": "Order of the training rows; batches of similar length by default."},
    )
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps of linear warm-up; a share of all steps if below 1."}
    )
    weight_decay: float = field(
        default=0.01, metadata={"help": "Decoupled weight decay of all weights but biases and norms."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Not needed: the collator takes the columns that the model knows."}
    )

    store_frozen: str = field(
        default=AUTO,
        metadata={
            "help": "Whether to cache the states of frozen layers on disk: 'auto' if it pays, 'always', also for rows "
            "that are evaluated or predicted outside of a training, 'never'.",
            "choices": STORE_FROZEN,
        },
    )
    store_dtype: str = field(
        default="float32",
        metadata={"help": "Type of the cached states: 'float32', 'bfloat16' or 'float16'.", "choices": tuple(DTYPES)},
    )
    store_dir: str | None = field(
        default=None, metadata={"help": "Folder of cached states; in the cache of datasets if not given."}
    )
    store_max_bytes: int | None = field(
        default=None,
        metadata={
            "help": "Size limit in bytes of all cached states in the folder; the least recently used are evicted. "
            "Half of the free disk if not given."
        },
    )
    ema_decay: float | None = field(
        default=None,
        metadata={"help": "Evaluate and save an exponential moving average of the weights, such as 0.99."},
    )
    word_dropout: float = field(
        default=0.0,
        metadata={"help": "Probability that a token of a training row is replaced by the mask token."},
    )
    packing: bool = field(
        default=False,
        metadata={"help": "Let short texts of a training batch share a row of the encoder, on the CPU."},
    )
    conflict_steps: int | None = field(
        default=None,
        metadata={"help": "Compare the gradients of the tasks on the shared layers every this many steps."},
    )
    loss_balancing: dict | str | None = field(
        default=NONE,
        metadata={
            "help": f"Method that weighs the losses of the tasks: {', '.join([NONE, *METHODS])}; or a mapping with "
            "'method', or 'torchjd', and its options."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Replace a loss of NaN in the log. The search for it waits for the device at every step."},
    )

    def __post_init__(self) -> None:
        """Raise if an argument would silently have no effect, or another one."""
        self.use_cpu = self.use_cpu or are_several_on_cpu()
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # torch warns at each loader: pinning needs an accelerator
        if self.accelerator_config is None and self.dataloader_pin_memory and not self.use_cpu:
            # Copy a batch to the device while the previous one is computed.
            self.accelerator_config = {"non_blocking": True}
        check_ranges(self)  # transformers divides by some of them
        check_supported(self)  # transformers imports DeepSpeed
        self._drop_unused_backend()
        super().__post_init__()
        self.check()

    def check(self) -> None:
        """Check the arguments again, after a hyperparameter search has set some of them.

        Raises:
            ValueError: If an argument has a value that is not allowed.
        """
        check_ranges(self)
        check_supported(self)
        for name, allowed in (("store_frozen", STORE_FROZEN), ("store_dtype", DTYPES)):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(unknown_name_message(name, value, allowed))
        if self.ema_decay is not None and not (isinstance(self.ema_decay, float) and 0 < self.ema_decay < 1):
            raise ValueError(f"ema_decay must be a number in (0, 1), found {self.ema_decay!r}.")
        if not 0 <= self.word_dropout < 1:
            raise ValueError(f"word_dropout must be a number in [0, 1), found {self.word_dropout!r}.")
        if self.layer_lr_decay is not None and not 0 < self.layer_lr_decay <= 1:
            raise ValueError(f"layer_lr_decay must be a number in (0, 1], found {self.layer_lr_decay!r}.")
        read_balancing(self.loss_balancing)
        self._check_early_stopping()
        accelerator_config = self.accelerator_config
        has_even_batches = not isinstance(accelerator_config, AcceleratorConfig) or accelerator_config.even_batches
        if self.world_size > 1 and not has_even_batches:
            raise ValueError(
                "accelerator_config: even_batches=False is not supported with several processes, which evaluate "
                "batches of equal size together."
            )
        if self.max_tokens_per_batch is not None:
            self._check_max_tokens(self.max_tokens_per_batch)

    def __getstate__(self) -> JsonObject:
        """Leave the token out of training_args.bin, which the Trainer saves and pushes with the model."""
        return {**self.__dict__, "hub_token": None}

    @classmethod
    def for_data(
        cls,
        data: PreparedData,
        encoder_config: PreTrainedConfig,
        output_dir: str | Path,
        effort: str = STANDARD,
        **given: Any,
    ) -> "MultiTaskTrainingArguments":
        """Return arguments whose values are chosen from data and encoder; see `choose_settings`.

        Args:
            data: The prepared data.
            encoder_config: Config of the encoder, such as ``model.config.encoder_config``.
            output_dir: Folder of the model and its checkpoints.
            effort: ``"quick"``, ``"standard"`` or ``"thorough"``.
            given: Arguments that are not chosen.

        Returns:
            The arguments, which can be changed.

        Raises:
            ValueError: If the effort is unknown, or a given argument is not allowed.
        """
        settings = choose_settings(data, encoder_config, effort, [f"training.{name}" for name in given])
        return cls(output_dir=str(output_dir), **{**settings.training, **given})

    def _drop_unused_backend(self) -> None:
        """Leave out the backend of DDP in a single process: accelerate would ask it for the number of processes."""
        if self.ddp_backend is not None and is_alone():
            logger.warning(
                "ddp_backend=%r has no effect: this is the only process. `accelerate launch --cpu` starts no other; "
                "to train on several, use torchrun --nproc_per_node.",
                self.ddp_backend,
            )
            self.ddp_backend = None

    def _check_early_stopping(self) -> None:
        if self.early_stopping_patience is None:
            return
        if self.early_stopping_patience < 1:
            raise ValueError(
                f"early_stopping_patience must be a whole number from 1, found {self.early_stopping_patience!r}."
            )
        if not self.load_best_model_at_end:
            raise ValueError(
                "early_stopping_patience needs load_best_model_at_end=True: otherwise the run would end with weights "
                "that are worse than its best ones."
            )

    def _check_max_tokens(self, max_tokens: object) -> None:
        if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
            raise ValueError(f"max_tokens_per_batch must be a whole number from 1, found {max_tokens!r}.")
        if self.train_sampling_strategy != "group_by_length":
            raise ValueError(
                "max_tokens_per_batch needs train_sampling_strategy='group_by_length', found "
                f"{self.train_sampling_strategy!r}."
            )
        for name in ("auto_find_batch_size", "dataloader_drop_last"):
            if getattr(self, name):
                raise ValueError(f"{name} is for batches of a fixed number of rows; max_tokens_per_batch has none.")

    @property
    def cache_settings(self) -> CacheSettings:
        """Settings of the activation cache."""
        default = Path(datasets.config.HF_DATASETS_CACHE, "hf_multitask", "states")
        folder = Path(self.store_dir or default)
        return CacheSettings(self.store_frozen, DTYPES[self.store_dtype], folder, self.store_max_bytes)

    @property
    def peak_head_learning_rate(self) -> float:
        """Peak learning rate of the heads: ``head_learning_rate``, or 10 times the encoder's."""
        if self.head_learning_rate is not None:
            return self.head_learning_rate
        return HEAD_LEARNING_RATE_FACTOR * self.learning_rate
