"""Encoders of the last years with the facts of their model cards. No run of ours has compared them."""

from collections.abc import Sequence
from dataclasses import dataclass

ENGLISH = "English"


@dataclass(frozen=True)
class CurrentEncoder:
    """Encoder with the facts that its model card states.

    Args:
        name: Hub name.
        millions: Number of weights in millions.
        context: Maximum number of tokens in a text.
        license: License of the weights.
        languages: Languages of the pretraining.
        model_type: Type of the model in transformers.
        use: Pooling and prompts of its sentence embeddings, or what else to know before using it.
    """

    name: str
    millions: int
    context: int
    license: str
    languages: str
    model_type: str
    use: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.millions} million weights, {self.context:,} tokens, {self.license})"


_ETTIN = [
    CurrentEncoder(f"jhu-clsp/ettin-encoder-{size}m", size, 8192, "MIT", ENGLISH, "modernbert")
    for size in (17, 32, 68, 150, 400)
]
CURRENT = (
    CurrentEncoder("answerdotai/ModernBERT-base", 149, 8192, "Apache-2.0", ENGLISH, "modernbert"),
    CurrentEncoder("answerdotai/ModernBERT-large", 395, 8192, "Apache-2.0", ENGLISH, "modernbert"),
    *_ETTIN,
    CurrentEncoder("jhu-clsp/mmBERT-small", 140, 8192, "MIT", "more than 1,800", "modernbert"),
    CurrentEncoder("jhu-clsp/mmBERT-base", 307, 8192, "MIT", "more than 1,800", "modernbert"),
    CurrentEncoder("EuroBERT/EuroBERT-210m", 210, 8192, "Apache-2.0", "15", "eurobert"),
    CurrentEncoder("EuroBERT/EuroBERT-610m", 610, 8192, "Apache-2.0", "15", "eurobert"),
    CurrentEncoder(
        "Alibaba-NLP/gte-modernbert-base", 149, 8192, "Apache-2.0", ENGLISH, "modernbert", "embeddings: `cls`"
    ),
    CurrentEncoder(
        "nomic-ai/nomic-embed-text-v1.5",
        137,
        8192,
        "Apache-2.0",
        ENGLISH,
        "nomic_bert",
        "embeddings: `mean`, prompts `search_query: `, `search_document: `, `classification: `, `clustering: `",
    ),
    CurrentEncoder(
        "intfloat/e5-base", 109, 512, "MIT", ENGLISH, "bert", "embeddings: `mean`, prompts `query: `, `passage: `"
    ),
    CurrentEncoder(
        "BAAI/bge-base-en-v1.5",
        109,
        512,
        "MIT",
        ENGLISH,
        "bert",
        "embeddings: `cls`, prompt of a query `Represent this sentence for searching relevant passages: `",
    ),
    CurrentEncoder(
        "google/embeddinggemma-300m",
        300,
        2048,
        "Gemma terms",
        "more than 100",
        "gemma3_text",
        "its embeddings end with `Dense` modules, so give `pooling: mean`; tokens see what follows",
    ),
    CurrentEncoder(
        "Qwen/Qwen3-Embedding-0.6B",
        600,
        32768,
        "Apache-2.0",
        "more than 100",
        "qwen3",
        "embeddings: `last`, padding on the left, prompt of a query `Instruct: … Query:`; a decoder",
    ),
)
MAX_ALTERNATIVES = 3


def find_alternatives(is_english: bool, millions: float, long_texts: bool) -> Sequence[CurrentEncoder]:
    """Return the current encoders that are nearest to the size of another one.

    Args:
        is_english: Whether the texts are English; other languages need a multilingual encoder.
        millions: Number of weights of the other encoder in millions.
        long_texts: Whether texts are longer than the other encoder reads at once.

    Returns:
        At most three encoders, the nearest size first.
    """
    fitting = [
        encoder
        for encoder in CURRENT
        if (encoder.languages == ENGLISH) == is_english and (encoder.context > 512 or not long_texts)
    ]
    return sorted(fitting, key=lambda encoder: abs(encoder.millions - millions))[:MAX_ALTERNATIVES]
