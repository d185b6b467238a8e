"""The ``multi-task`` pipeline of transformers: all answers for a text from one pass of the encoder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Pipeline

from .configuration_multitask import MultiTaskConfig
from .messages import unknown_name_message
from .onnx_session import BACKENDS, TORCH, OnnxSession
from .predictor import OutputOptions, Predictor
from .text_inputs import TEXT_COLUMN, TOKENS_COLUMN, TextInput, check_input, read_input

DEFAULT_BATCH_SIZE = 32
_OPTIONS = [field.name for field in fields(OutputOptions)]


class MultiTaskPipeline(Pipeline):
    """Predicts all tasks of a `MultiTaskModel` for texts; ``pipeline("multi-task", model=…)`` builds it.

    Texts are read ahead and predicted in batches of like length; predictions come in the order of the texts and do
    not depend on the size of the batches. Long texts are cut into windows, as in training.

    Args:
        model: The model; it is put into eval mode.
        tokenizer: Its tokenizer.
        backend: What computes the logits: ``"torch"``, the model itself; ``"onnx"`` or ``"onnx-int8"``, the graph that
            ``hf-multitask export`` has put beside it, on the CPU.
        kwargs: What ``Pipeline`` takes (``device``, ``batch_size``), and what predictions hold, see `OutputOptions`:
            ``tasks``, ``top_k``, ``threshold``, ``word_labels``, ``tag_scheme``.

    Raises:
        ValueError: If the model is no multi-task model, there is no tokenizer, an option is wrong, or the graph was
            made from other weights.
        FileNotFoundError: If there is no graph.
        ImportError: If onnxruntime is needed and not installed.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    # None: where there is none to load, the pipeline is built without, and says so itself.
    _load_tokenizer = None

    def __init__(self, model: Any, tokenizer: Any = None, backend: str = TORCH, **kwargs: Any) -> None:
        if model.config.model_type != MultiTaskConfig.model_type:
            raise ValueError(f"model: expected a multi-task model, found a model of type {model.config.model_type!r}.")
        if tokenizer is None:
            raise ValueError(
                "tokenizer: the pipeline needs the model's tokenizer, found none that can be loaded; "
                "tokenizer.save_pretrained writes it beside the model (tokenizer.json)."
            )
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

    def __call__(
        self, inputs: Any, batch_size: int | None = None, is_split_into_words: bool = False, **options: Any
    ) -> Any:
        """Predict one text or many.

        Args:
            inputs: A text; a mapping with ``text``, with ``tokens`` (its words), or with both, where the words are
                looked up in the text, and with ``text_pair`` for a pair of texts; a list of these; or anything else
                that yields them, such as a generator or a column of a dataset, which is read as the predictions are
                taken.
            batch_size: Texts a pass; 32 if none is given, here or to the pipeline.
            is_split_into_words: Whether a list of strings is one text in words, and a list of such lists several.
            options: What predictions hold, see the class; they go before those of the pipeline.

        Returns:
            For one text its predictions by task, for a list a list of them, for all else an iterator. A task with
            one label: ``{"label", "score"}`` with the label's probability; several labels: ``{"labels", "scores"}``
            of those above ``threshold``; with ``top_k`` both are a list of ``{"label", "score"}``; a number:
            ``{"value"}``, or ``{"values"}`` by name. A token task: ``{"entities"}``, each with ``label``, ``start``,
            ``end``, ``text`` and ``score``, where ``text`` is the caller's text, the first of a pair, from character
            ``start`` to ``end`` (of the words joined by spaces where no text was given) and ``score`` the mean
            probability of its words' tags; with ``word_labels`` also ``words`` and ``labels``.

        Raises:
            ValueError: If an input is empty or no text, or an option is wrong. The message names the input.
        """
        _, _, given = self._sanitize_parameters(**options)
        predictor = self._predictor({**self._postprocess_params, **given})
        size = DEFAULT_BATCH_SIZE if self._batch_size is None else self._batch_size
        size = size if batch_size is None else batch_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"batch_size must be a whole number from 1, found {size!r}.")
        is_list = isinstance(inputs, (list, tuple))
        is_one_in_words = is_split_into_words and is_list and isinstance(next(iter(inputs), ""), str)
        # A dataset of torch can be iterated, but is no Iterable.
        if is_one_in_words or not isinstance(inputs, (Iterable, Dataset)) or isinstance(inputs, (str, bytes, Mapping)):
            text = self.preprocess(inputs, "input", is_split_into_words)
            return predictor.predict([text], size)[0]
        texts = (self.preprocess(text, f"input {i}", is_split_into_words) for i, text in enumerate(iter(inputs)))
        results = predictor.stream(texts, size)
        return list(results) if is_list else results

    def preprocess(self, input_: Any, place: str = "input", is_split_into_words: bool = False) -> TextInput:
        """Read one input: its text and its words, and the second text of a pair.

        Args:
            input_: A text, its words, or a mapping; see `__call__`.
            place: What messages call it.
            is_split_into_words: Whether a list is a text in words.

        Returns:
            The texts and the words.

        Raises:
            ValueError: If it is empty or no text.
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
        if isinstance(options.get("tasks"), str):
            raise ValueError(f"tasks: expected a list of names, found {options['tasks']!r}.")
        if options.get("tasks") is not None:
            options["tasks"] = tuple(options["tasks"])
        return {}, {}, options

    def _predictor(self, options: Mapping[str, Any]) -> Predictor:
        """Return what predicts with these options."""
        chosen = OutputOptions(**options)
        if chosen not in self._predictors:
            model = self.model
            threads = 1 if self._session is None else self._session.threads
            self._predictors[chosen] = Predictor(
                model.config, self.tokenizer, self._forward, model.crfs, self.device, chosen, threads
            )
        return self._predictors[chosen]

    @property
    def _splits_words(self) -> bool:
        return any(task.is_token_task for task in self.model.config.tasks)

    def _forward(self, input_tensors: Mapping[str, torch.Tensor], tasks: Sequence[str]) -> dict[str, torch.Tensor]:
        """Run model or graph on a batch and return the logits of some tasks."""
        if self._session is not None:
            return self._session(input_tensors, tasks)
        return self.model(**input_tensors, tasks=tasks).logits

    def postprocess(self, model_outputs: Any) -> Any:
        """Return predictions as they are: they have their form already."""
        return model_outputs
