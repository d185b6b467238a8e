"""A random encoder of any size, and rows of random tokens for it."""

from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from hf_multitask import TaskConfig
from hf_multitask.data import PreparedData

from .workload import SEED, Workload

INTENTS, SLOT_TYPES = 7, 36  # about as many as SNIPS has
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCAB_SIZE = 30522
WIDTH_OF_A_HEAD = 64


@dataclass(frozen=True)
class EncoderShape:
    """The size of an encoder like BERT.

    Args:
        layers: Its layers.
        hidden_size: Its width.
    """

    layers: int
    hidden_size: int


def random_workload(folder: Path, shape: EncoderShape, rows: int, length: int, batch_size: int) -> Workload:
    """Save a random encoder in a folder and make rows of random tokens for it.

    Args:
        folder: The folder.
        shape: Size of the encoder.
        rows: Number of rows.
        length: Tokens of each.
        batch_size: Rows a step.

    Returns:
        The workload, on the GPU where there is one.
    """
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=max(shape.hidden_size // WIDTH_OF_A_HEAD, 1),
        intermediate_size=4 * shape.hidden_size,
    )
    BertModel(config).save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *map(str, range(VOCAB_SIZE - len(SPECIAL)))))}
    tokenizer = BertTokenizer(vocab=vocabulary)
    ids = torch.randint(len(SPECIAL), VOCAB_SIZE, (rows, length)).tolist()
    intent_labels = [f"intent {i}" for i in range(INTENTS)]
    slot_labels = ["O", *(f"{prefix}-{i}" for i in range(SLOT_TYPES) for prefix in "BI")]
    intents = torch.randint(len(intent_labels), (rows,)).tolist()
    slots = torch.randint(len(slot_labels), (rows, length)).tolist()
    train = datasets.Dataset.from_dict(
        {
            "labels": [{"intent": one, "slots": many} for one, many in zip(intents, slots, strict=True)],
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
