"""What requests may contain, and what is refused before the model sees it."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError, create_model

from ..models.predictor import OutputOptions
from ..models.type_aliases import JsonObject
from .errors import RequestError
from .settings import ServerSettings

UTF_16 = "utf16"
MAX_PROBLEMS_SHOWN = 3
_OPTIONS = {field.name for field in fields(OutputOptions)}
_Request = TypeVar("_Request", bound=BaseModel)


class TextRow(BaseModel):
    """A text, its words, or both, in which case the words are located in the text; and a second text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = None
    tokens: list[str] | None = None
    text_pair: str | None = None


def _kind(value: object) -> str | None:
    """Return which of the alternatives a value is, so that a message is about this one alone."""
    kinds: dict[type, str] = {str: "text", dict: "row", TextRow: "row", list: "list"}
    return kinds.get(type(value))


def _discriminator(message: str) -> Discriminator:
    return Discriminator(_kind, custom_error_type="kind", custom_error_message=message)


_Text = Annotated[str, Tag("text")]
_Row = Annotated[TextRow, Tag("row")]
_Item = Annotated[_Text | _Row, _discriminator("expected a text, or an object with `text` or `tokens`")]
_Items = Annotated[list[_Item], Tag("list")]


class PredictFields(BaseModel):
    """The texts of a request for predictions; the fields of `OutputOptions` are added to it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[
        _Text | _Row | _Items, _discriminator("expected a text, an object with `text` or `tokens`, or a list of them")
    ]
    offsets: Literal["code_points", "utf16"] = "code_points"

    def texts(self) -> list[str | JsonObject]:
        """Return the inputs as the pipeline takes them."""
        items = self.inputs if isinstance(self.inputs, list) else [self.inputs]
        return [item if isinstance(item, str) else item.model_dump(exclude_none=True) for item in items]

    def options(self) -> JsonObject:
        """Return the options that were given, as the pipeline takes them."""
        options = self.model_dump(include=_OPTIONS, exclude_unset=True)
        if options.get("tasks") is not None:
            options["tasks"] = list(dict.fromkeys(options["tasks"]))
        return options


def _option_fields() -> dict[str, Any]:
    """Return the options of the pipeline as fields, so that a request has those that the pipeline has."""
    types = get_type_hints(OutputOptions)
    return {field.name: (types[field.name], field.default) for field in fields(OutputOptions)}


PredictRequest: type[PredictFields] = create_model("PredictRequest", __base__=PredictFields, **_option_fields())


class EmbedRequest(BaseModel):
    """The texts of a request for sentence embeddings."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[_Text | Annotated[list[str], Tag("list")], _discriminator("expected a text or a list of texts")]
    prompt_name: str | None = None

    def texts(self) -> list[str | JsonObject]:
        """Return the texts."""
        return [self.inputs] if isinstance(self.inputs, str) else list(self.inputs)


def parse_request(schema: type[_Request], body: bytes) -> _Request:
    """Read the body of a request.

    Args:
        schema: `PredictRequest` or `EmbedRequest`.
        body: JSON.

    Returns:
        The request.

    Raises:
        RequestError: If the body is not such a request: status 422.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        lines = [": ".join(filter(None, (_place(line["loc"]), line["msg"]))) for line in problems[:MAX_PROBLEMS_SHOWN]]
        more = f"; and {len(problems) - MAX_PROBLEMS_SHOWN} more" if len(problems) > MAX_PROBLEMS_SHOWN else ""
        raise RequestError(422, "; ".join(lines) + more) from error


def _place(location: Sequence[int | str]) -> str:
    """Return where in a request a problem is, without the names of alternatives, which are not in it."""
    parts = [str(part) for part in location]
    return ".".join(
        part for i, part in enumerate(parts) if not (part in ("text", "row", "list") and _is_tag(parts, i))
    )


def _is_tag(parts: Sequence[str], i: int) -> bool:
    """Return whether a part is the name of an alternative: it follows `inputs` or the number of an item."""
    return i > 0 and (parts[i - 1] == "inputs" or parts[i - 1].isdecimal())


def check_limits(texts: Sequence[str | JsonObject], settings: ServerSettings) -> None:
    """Raise if a request has too many or too long texts.

    Args:
        texts: Texts of the request.
        settings: Limits.

    Raises:
        RequestError: If a limit is exceeded: status 422.
    """
    if len(texts) > settings.max_texts:
        raise RequestError(422, f"inputs: expected at most {settings.max_texts} texts, found {len(texts)}.")
    for i, text in enumerate(texts):
        if (size := num_characters(text)) > settings.max_characters:
            place = "inputs" if len(texts) == 1 else f"inputs.{i}"
            raise RequestError(422, f"{place}: expected at most {settings.max_characters} characters, found {size}.")


def num_characters(text: str | JsonObject) -> int:
    """Return the length of a text with its words, each of which counts as one more, and its second text."""
    if isinstance(text, str):
        return len(text)
    words = text.get("tokens", ())
    parts = (text.get("text", ""), *words, text.get("text_pair", ""))
    return sum(map(len, parts)) + len(words)
