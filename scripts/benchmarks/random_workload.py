"""Random encoders of any size, and rows of random tokens for them."""

from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from hf_multitask import TaskConfig
from hf_multitask.data import PreparedData

from .workload import SEED, Workload

INTENTS, SLOT_TYPES = 7, 36  # about as many as SNIPS has
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCAB_SIZE = 30522
ATTENTION_HEAD_SIZE = 64


@dataclass(frozen=True)
class EncoderShape:
    """Size of an encoder like BERT.

    Args:
        layers: Number of layers.
        hidden_size: Hidden size.
    """

    layers: int
    hidden_size: int


def encoder_shape(text: str) -> EncoderShape:
    """Return the size that a text such as ``12x768`` says: layers and hidden size.

    Raises:
        ValueError: If it says anything else.
    """
    layers, _, hidden_size = text.partition("x")
    return EncoderShape(int(layers), int(hidden_size))


def random_workload(folder: Path, shape: EncoderShape, rows: int, length: int, batch_size: int) -> Workload:
    """Save a random encoder and generate rows of random tokens for it.

    Args:
        folder: Folder to save the encoder to.
        shape: Size of the encoder.
        rows: Number of rows.
        length: Number of tokens per row.
        batch_size: Number of rows per step.

    Returns:
        The workload, on the GPU if there is one.
    """
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=max(shape.hidden_size // ATTENTION_HEAD_SIZE, 1),
        intermediate_size=4 * shape.hidden_size,
    )
    BertModel(config).save_pretrained(folder)
    vocabulary = {
        word: i for i, word in enumerate((*SPECIAL_TOKENS, *map(str, range(VOCAB_SIZE - len(SPECIAL_TOKENS)))))
    }
    tokenizer = BertTokenizer(vocab=vocabulary)
    ids = torch.randint(len(SPECIAL_TOKENS), VOCAB_SIZE, (rows, length)).tolist()
    intent_labels = [f"intent {i}" for i in range(INTENTS)]
    slot_labels = ["O", *(f"{prefix}-{i}" for i in range(SLOT_TYPES) for prefix in "BI")]
    intents = torch.randint(len(intent_labels), (rows,)).tolist()
    slots = torch.randint(len(slot_labels), (rows, length)).tolist()
    train = datasets.Dataset.from_dict(
        {
            "labels": [{"intent": intent, "slots": tags} for intent, tags in zip(intents, slots, strict=True)],
            "input_ids": ids,
            "attention_mask": [[1] * length] * rows,
            "length": [length] * rows,
            "tag_positions": [list(range(length))] * rows,
        }
    )
    tasks = [
        TaskConfig("intent", "sequence_classification", labels=intent_labels),
        TaskConfig("slots", "token_classification", labels=slot_labels),
    ]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Workload(str(folder), [], PreparedData({"train": train}, tasks), tokenizer, batch_size, device)
