"""The ``multi-task`` pipeline of transformers: all predictions for a text from one pass of the encoder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Pipeline, PreTrainedTokenizerBase

from .configuration_multitask import MultiTaskConfig
from .encoder_vocabulary import check_vocabulary
from .messages import unknown_name_message
from .modeling_base import MultiTaskPreTrainedModel
from .onnx_session import BACKENDS, TORCH, OnnxSession
from .predictor import OutputOptions, Predictor
from .text_inputs import TEXT_COLUMN, TOKENS_COLUMN, TextInput, check_input, read_input

DEFAULT_BATCH_SIZE = 32
# Number of sets of options whose predictors are kept: a server passes on options that its callers choose.
MAX_PREDICTORS = 32
_OPTIONS = [field.name for field in fields(OutputOptions)]


class MultiTaskPipeline(Pipeline):
    """Predicts all tasks of a `MultiTaskModel` for texts; ``pipeline("multi-task", model=…)`` builds it.

    Texts are read ahead and predicted in batches of similar length. Predictions are returned in the order of the texts
    and do not depend on the batch size. Long texts are cut into windows, as in training.

    Args:
        model: Model; it is set to eval mode.
        tokenizer: Tokenizer of the model.
        backend: Backend that computes the logits: ``"torch"`` for the model itself; ``"onnx"`` or ``"onnx-int8"`` for
            the graph that ``hf-multitask export`` has added to its folder, on the CPU.
        kwargs: Arguments of ``Pipeline`` (``device``, ``batch_size``) and fields of `OutputOptions`: ``tasks``,
            ``top_k``, ``threshold``, ``min_score``, ``word_labels``, ``tag_scheme``.

    Raises:
        ValueError: If the model is not a multi-task model, the tokenizer is missing, an option is invalid, or the
            graph was exported from other weights.
        FileNotFoundError: If the model has no such graph.
        ImportError: If onnxruntime is needed but not installed.
    """

    model: MultiTaskPreTrainedModel
    # Pipeline declares a slow tokenizer or None.
    tokenizer: PreTrainedTokenizerBase  # type: ignore[assignment]

    # Pipeline declares these as None, but expects booleans.
    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    # None makes the tokenizer optional for transformers, so that __init__ can raise a clear error if it is missing.
    _load_tokenizer = None

    def __init__(self, model: Any, tokenizer: Any = None, backend: str = TORCH, **kwargs: Any) -> None:
        if model.config.model_type != MultiTaskConfig.model_type:
            raise ValueError(f"model: expected a multi-task model, found a model of type {model.config.model_type!r}.")
        if tokenizer is None:
            raise ValueError(
                "tokenizer: the pipeline needs the model's tokenizer, found none that can be loaded; "
                "tokenizer.save_pretrained writes it next to the model (tokenizer.json)."
            )
        check_vocabulary(tokenizer, model.config)
        if backend not in BACKENDS:
            raise ValueError(unknown_name_message("backend", backend, BACKENDS))
        if backend != TORCH and kwargs.get("device") is None:
            kwargs["device"] = "cpu"
        super().__init__(model, tokenizer, **kwargs)
        if backend != TORCH and self.device.type != "cpu":
            raise ValueError(f"device: backend {backend!r} computes on the CPU, found {self.device}.")
        self.model.eval()
        self._session = None if backend == TORCH else OnnxSession.of_model(self.model, backend)
        self._predictors: dict[OutputOptions, Predictor] = {}
        self._predictor(self._postprocess_params)

    # Stricter than Pipeline, which passes any argument on to its steps: unknown options raise.
    def __call__(  # type: ignore[override]
        self, inputs: Any, batch_size: int | None = None, is_split_into_words: bool = False, **options: Any
    ) -> Any:
        """Predict one text or many.

        Args:
            inputs: A text; a mapping with ``text``, ``tokens`` (its words), or both, in which case the words are
                located in the text, and with ``text_pair`` for a pair of texts; a list of texts or mappings; or any
                other iterable of them, such as a generator or a column of a dataset, which is read lazily.
            batch_size: Number of texts per pass. Defaults to the pipeline's, or to 32.
            is_split_into_words: Whether a list of strings is one text as words, and a list of such lists several
                texts.
            options: Fields of `OutputOptions`, which replace those of the pipeline.

        Returns:
            Predictions by task for one text, a list of them for a list, an iterator for any other iterable. For a
            single-label task: ``{"label", "score"}`` with the probability of the label. If the task abstains, also
            ``"best_label"`` and ``"in_scope"``, from 0.5 for a text in scope; the label of any other is None, or the
            task's ``out_of_scope``. For a multi-label task:
            ``{"labels", "scores"}`` of the labels above ``threshold``. With ``top_k``, both are lists of
            ``{"label", "score"}``. For regression: ``{"value"}``, or ``{"values"}`` by name. For a token task:
            ``{"entities"}``, each with ``label``, ``start``, ``end``, ``text`` and ``score``. ``text`` is the caller's
            text (the first of a pair, or the words joined by spaces if no text was given) from character ``start`` to
            ``end``, and ``score`` the mean probability of the tags of its words; those below ``min_score`` are left
            out. With ``word_labels``, also ``words`` and ``labels``.

        Raises:
            ValueError: If an input is empty or not a text, or an option is invalid. The message names the input.
        """
        predictor = self.predictor(**options)
        size = DEFAULT_BATCH_SIZE if self._batch_size is None else self._batch_size
        size = size if batch_size is None else batch_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"batch_size must be a whole number from 1, found {size!r}.")
        is_list = isinstance(inputs, (list, tuple))
        is_words_of_one = is_split_into_words and is_list and isinstance(next(iter(inputs), ""), str)
        # A torch Dataset can be iterated, but is not an Iterable.
        if is_words_of_one or not isinstance(inputs, (Iterable, Dataset)) or isinstance(inputs, (str, bytes, Mapping)):
            text = self.preprocess(inputs, "input", is_split_into_words)
            return predictor.predict([text], size)[0]
        texts = (self.preprocess(text, f"input {i}", is_split_into_words) for i, text in enumerate(iter(inputs)))
        results = predictor.stream(texts, size)
        return list(results) if is_list else results

    def predictor(self, **options: Any) -> Predictor:
        """Return what predicts texts that `preprocess` has read.

        Args:
            options: Fields of `OutputOptions`, which replace those of the pipeline.

        Returns:
            The predictor.

        Raises:
            ValueError: If an option is invalid.
        """
        _, _, given = self._sanitize_parameters(**options)
        return self._predictor({**self._postprocess_params, **given})

    # Pipeline expects tensors here; the predictor makes them batch by batch.
    def preprocess(  # type: ignore[override]
        self, input_: Any, place: str = "input", is_split_into_words: bool = False
    ) -> TextInput:
        """Read one input: its text and words, and the second text of a pair.

        Args:
            input_: A text, its words, or a mapping; see `__call__`.
            place: Name of the input in messages.
            is_split_into_words: Whether a list contains the words of a text.

        Returns:
            The texts and the words.

        Raises:
            ValueError: If the input is empty or not a text.
        """
        if isinstance(input_, str):
            input_ = {TEXT_COLUMN: input_}
        elif is_split_into_words and isinstance(input_, (list, tuple)):
            input_ = {TOKENS_COLUMN: list(input_)}
        if not isinstance(input_, Mapping):
            hint = "; words are given as tokens or with is_split_into_words=True, two texts as text and text_pair"
            raise ValueError(
                f"{place}: expected a text, or a mapping with 'text' or 'tokens', found {input_!r:.80}"
                f"{hint if isinstance(input_, (list, tuple)) else ''}."
            )
        check_input(input_, place)
        return read_input(input_, place, self._splits_words)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        for name in options:
            if name not in _OPTIONS:
                raise ValueError(unknown_name_message("option", name, _OPTIONS))
        if isinstance(options.get("tasks"), list):
            options["tasks"] = tuple(options["tasks"])
        return {}, {}, options

    def _predictor(self, options: Mapping[str, Any]) -> Predictor:
        """Return the predictor for some options, which is kept for the next texts."""
        output_options = OutputOptions(**options)
        if output_options not in self._predictors:
            if len(self._predictors) == MAX_PREDICTORS:
                del self._predictors[next(iter(self._predictors))]
            model = self.model
            threads = 1 if self._session is None else self._session.threads
            self._predictors[output_options] = Predictor(
                model.config, self.tokenizer, self._forward, model.crfs, self.device, output_options, threads
            )
        return self._predictors[output_options]

    @property
    def _splits_words(self) -> bool:
        return any(task.is_token_task for task in self.model.config.tasks)

    # Pipeline expects the model's whole output; a graph has only logits.
    def _forward(  # type: ignore[override]
        self, input_tensors: Mapping[str, torch.Tensor], tasks: Sequence[str]
    ) -> Mapping[str, torch.Tensor]:
        """Run the model or the graph on a batch and return the logits of some tasks."""
        if self._session is not None:
            return self._session(input_tensors, tasks)
        return self.model(**input_tensors, tasks=tasks, packed=True, return_dict=True).logits

    def postprocess(self, model_outputs: Any, **postprocess_parameters: Any) -> Any:
        """Return predictions unchanged; `Pipeline` requires the method."""
        return model_outputs
