"""Tiny random encoders of every supported architecture, with tokenizers made of a few sentences."""

import json
from pathlib import Path

import torch
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

SENTENCES = [
    "play some music by the beatles in paris",
    "what is the weather like in london tomorrow morning",
    "book a table for two at the old mill",
    "add this song by miles davis to my jazz playlist",
    "will it rain in new york city next week",
    "rate this book five stars out of six",
    "find a restaurant near central park, please!",
    "it's snowing in são paulo",
]
INTENTS = ["PlayMusic", "GetWeather", "BookRestaurant", "PlayMusic", "GetWeather", "RateBook", "BookRestaurant"]
PLACES = {"paris", "london", "new", "york", "city", "central", "park"}


def _row(i: int) -> dict:
    sentence = SENTENCES[i % 7]
    tokens = sentence.split()[: 3 + (5 * i) % 9]
    tags = ["O"] * len(tokens)
    for j, token in enumerate(tokens):
        if token.strip(",!") in PLACES:
            tags[j] = "I-place" if j and tags[j - 1] != "O" else "B-place"
    return {"tokens": tokens, "intent": INTENTS[i % 7], "slots": tags}


ROWS = [_row(i) for i in range(22)]

# Metrics of a report on these rows, in order.
METRIC_NAMES = [
    "intent_accuracy",
    "intent_macro_f1",
    "slots_precision",
    "slots_recall",
    "slots_f1",
    "slots_strict_f1",
    "joint_accuracy",
    "intent_loss",
    "slots_loss",
    "loss",
]


def without_calibration(metrics):
    """Return the names of metrics without those of the calibration, which tasks without predicted entities lack."""
    return [name for name in metrics if not name.endswith(("_ece", "_brier", "_nll"))]


SPECIAL = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


def wordpiece(lowercase: bool = True) -> Tokenizer:
    """Make a BERT-like tokenizer of words, their beginnings, ends and letters, as training is not repeatable."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    text = tokenizer.normalizer.normalize_str(" ".join(SENTENCES))
    words = {word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    letters = set(text) - {" "}
    ends = {f"##{end}" for end in letters | {word[3:] for word in words if len(word) > 3}}
    pieces = [*SPECIAL.values(), *sorted(letters | words | {word[:3] for word in words} | ends)]
    tokenizer.model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    return tokenizer


def byte_level(add_prefix_space: bool = False, split: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=not split)
    if split:
        # As in Qwen and Llama 3: words are split before bytes.
        parts = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([parts, tokenizer.pre_tokenizer])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=list(SPECIAL.values()), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=110, special_tokens=list(SPECIAL.values()), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    # The last bits of the scores, and so the order of ties, change from one training to the next.
    special, trained = list(SPECIAL.values()), json.loads(tokenizer.to_str())["model"]["vocab"]
    scores = sorted((-round(score, 3), piece) for piece, score in trained if piece not in special)
    vocabulary = [*((piece, 0.0) for piece in special), *((piece, -score) for score, piece in scores)]
    tokenizer.model = models.Unigram(vocabulary, unk_id=special.index("<unk>"), byte_fallback=False)
    return tokenizer


def byte_fallback() -> Tokenizer:
    """Train a SentencePiece-like BPE as in Llama and Gemma: unknown characters become bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [*SPECIAL.values(), *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


TOKENIZERS = {
    "wordpiece": wordpiece,
    "wordpiece-cased": lambda: wordpiece(lowercase=False),
    "byte-level": byte_level,
    "byte-level-split": lambda: byte_level(split=True),
    "byte-level-prefix": lambda: byte_level(add_prefix_space=True),
    "byte-fallback": byte_fallback,
    "unigram": unigram,
}


def make_tokenizer(kind: str, special_tokens: bool = True) -> PreTrainedTokenizerFast:
    """Train a tokenizer and wrap it as transformers loads it."""
    tokenizer = TOKENIZERS[kind]()
    ids = [("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))]
    if special_tokens:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, **SPECIAL)


SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 56,
    "vocab_size": 400,
    "pad_token_id": 1,
}
ARCHITECTURES = {
    "bert": ("wordpiece", {}),
    "mpnet": ("wordpiece", {}),
    "roberta": ("byte-level", {}),
    "xlm-roberta": ("unigram", {}),
    "distilbert": ("wordpiece", {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}),
    "electra": ("wordpiece", {"embedding_size": 8}),
    "deberta-v2": (
        "unigram",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "max_relative_positions": -1,
        },
    ),
    "modernbert": ("byte-level", {"global_attn_every_n_layers": 2, "local_attention": 8}),
    "albert": ("unigram", {"embedding_size": 8}),
}


def save_tiny_encoder(architecture: str, folder: Path, pooling: str | None = None, normalize: bool = False) -> Path:
    """Write a tiny random encoder with its tokenizer, as a sentence-transformers folder if ``pooling`` is given."""
    kind, extra = ARCHITECTURES[architecture]
    torch.manual_seed(1)
    size = {key: value for key, value in SIZE.items() if architecture != "distilbert" or key in ("vocab_size",)}
    special = {"bos_token_id": 0, "cls_token_id": 0, "sep_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
    config = AutoConfig.for_model(architecture, **{**size, **special, **extra})
    AutoModel.from_config(config).save_pretrained(folder)
    make_tokenizer(kind).save_pretrained(folder)
    if pooling:
        modules = [
            ("", "Transformer"),
            ("1_Pooling", "Pooling"),
            *([("2_Normalize", "Normalize")] if normalize else []),
        ]
        (folder / "modules.json").write_text(
            json.dumps(
                [
                    {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                    for i, (path, kind) in enumerate(modules)
                ]
            )
        )
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(
            json.dumps({"word_embedding_dimension": 16, f"pooling_mode_{pooling}": True})
        )
    return folder


def save_tiny_run(folder: Path, training: dict, output_dir: str | Path) -> Path:
    """Write the config of a run with its data and a tiny encoder in one folder; return its path."""
    save_tiny_encoder("bert", folder / "encoder")
    for split, rows in (("train", ROWS[:16]), ("validation", ROWS[:9]), ("test", ROWS[9:])):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    values = {
        "encoder": "encoder",
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "training": training,
        "output_dir": str(output_dir),
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def config_of_two_datasets(encoder, files, output_dir):
    """Return the config of an epoch on a dataset of intents and one of slots, both with the same files by split."""
    return {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": [{"tasks": [task], **files} for task in ("intent", "slots")],
        "training": {"num_train_epochs": 1, "use_cpu": True},
        "output_dir": str(output_dir),
    }
