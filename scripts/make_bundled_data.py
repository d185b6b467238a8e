"""Write the bundled train, validation and test rows from the templates and names in ``bundled_data/``.

Every template and every name is randomly assigned to one part (train, validation, test or shared), so that most
templates and names of the evaluation splits never occur in training.
"""

import argparse
import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DATA_DIR = Path(__file__).resolve().parent / "bundled_data"
OUTPUT_DIR = Path(__file__).resolve().parent.parent / "hf_multitask" / "quickstart" / "data"

TOPICS = ("Technology", "Weather", "Other")
ROWS_PER_TOPIC = {"train": 500, "validation": 100, "test": 100}

TEMPLATE_SHARES = {"train": 0.54, "validation": 0.18, "test": 0.28}
NAME_SHARES = {"train": 0.52, "eval": 0.42}
SHARED_NAME_RATE = 0.25
DRAWS_PER_NAME_LINE = 25

NO_ENTITY_KEEP_RATE = 0.65
LOWERCASE_RATE = 0.08
NO_FINAL_PUNCTUATION_RATE = 0.10
TYPOGRAPHIC_QUOTES_RATE = 0.5

# Slots that draw from the lists of other slots, from repeated ones more often, and short forms of a person's name.
SLOT_GROUPS = {
    "FIRST": ("PERSON",),
    "LAST": ("PERSON",),
    "PLACE": ("CITY", "REGION"),
    "COMPANY": ("TECHFIRM", "FIRM", "CARRIER", "UTILITY"),
    "BODY": ("OFFICE", "INSTITUTE"),
    "AGENCY": ("OFFICE", "INSTITUTE", "METEO"),
    "DEVICE": ("GADGET", "GADGET", "GADGET", "STATION"),
    "APP": ("SOFTWARE", "SOFTWARE", "SOFTWARE", "FORECAST"),
    "FUTURE": ("NEXT", "LATER"),
}
SHORT_FORMS: dict[str, Callable[[str], str]] = {
    "FIRST": lambda name: name.split(" ", 1)[0],
    "LAST": lambda name: name.split(" ", 1)[1],
}

CHOICE = re.compile(r"\[([^\[\]]*)\]")
NUMBER = re.compile(r"\{N:(\d+)-(\d+)\}")
SLOT = re.compile(r"\{([A-Z]+)(?::([^{}]+))?\}")
PUNCTUATION = ".,;:!?()\"'“”‘’"
POSSESSIVES = ("'s", "’s")


@dataclass(frozen=True)
class Template:
    """Sentence pattern with its identifier and its part."""

    name: str
    pattern: str
    part: str


@dataclass(frozen=True)
class Names:
    """Names of one slot by part, and their entity type."""

    entity_type: str
    by_part: dict[str, list[str]]


@dataclass(frozen=True)
class Span:
    """Character range (end exclusive) and type of an entity."""

    start: int
    end: int
    entity_type: str


def read_lines(path: Path) -> list[str]:
    """Read the lines of a grammar file without comments and blank lines.

    Args:
        path: The file to read.

    Returns:
        The remaining lines, stripped.
    """
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def expand(pattern: str, rng: random.Random) -> str:
    """Resolve the ``[a|b]`` choices and ``{N:low-high}`` numbers of a pattern, inner ones first.

    Args:
        pattern: The pattern; its entity slots are left alone.
        rng: Random number generator.

    Returns:
        One expansion, with doubled spaces removed.
    """
    while CHOICE.search(pattern):
        pattern = CHOICE.sub(lambda match: rng.choice(match[1].split("|")), pattern)
    pattern = NUMBER.sub(lambda match: str(rng.randint(int(match[1]), int(match[2]))), pattern)
    return re.sub(r" +(?=[ ,.;:!?]|$)", "", pattern)


def assign_parts(lines: list[str], shares: dict[str, float], rng: random.Random) -> list[tuple[str, str]]:
    """Assign each line to a part by the given shares; the rest and lines starting with ``*`` are shared.

    Args:
        lines: The lines to divide.
        shares: Share of the lines without ``*`` by part.
        rng: Random number generator.

    Returns:
        Pairs of a line without its ``*`` and the line's part, in the order of ``lines``.
    """
    order = [index for index, line in enumerate(lines) if not line.startswith("*")]
    rng.shuffle(order)
    parts = ["shared"] * len(lines)
    start = 0.0
    for part, share in shares.items():
        for index in order[round(start * len(order)) : round((start + share) * len(order))]:
            parts[index] = part
        start += share
    return [(line.removeprefix("*"), part) for line, part in zip(lines, parts, strict=True)]


def load_templates(topic: str, rng: random.Random) -> list[Template]:
    """Load the templates of a topic and assign them to parts.

    Args:
        topic: The topic. Its lowercase name is the stem of the file.
        rng: Random number generator.

    Returns:
        The templates, numbered from 1 in file order.
    """
    stem = topic.lower()
    lines = assign_parts(read_lines(DATA_DIR / f"{stem}.txt"), TEMPLATE_SHARES, rng)
    return [Template(f"{stem}-{number:03d}", line, part) for number, (line, part) in enumerate(lines, start=1)]


def load_names(rng: random.Random) -> dict[str, Names]:
    """Load the names of every slot and assign them to parts.

    Args:
        rng: Random number generator.

    Returns:
        The names by slot.
    """
    sections: dict[str, tuple[str, list[str]]] = {}
    for line in read_lines(DATA_DIR / "names.txt"):
        if line.startswith("== "):
            _, slot, entity_type = line.split()
            lines: list[str] = []
            sections[slot] = (entity_type, lines)
        else:
            lines.extend(expand(line, rng) for _ in range(DRAWS_PER_NAME_LINE))
    names = {}
    for slot, (entity_type, lines) in sections.items():
        by_part: dict[str, list[str]] = {"train": [], "eval": [], "shared": []}
        for name, part in assign_parts(drop_repeats(lines), NAME_SHARES, rng):
            by_part[part].append(name)
        names[slot] = Names(entity_type, by_part)
    return names


def drop_repeats(lines: list[str]) -> list[str]:
    """Drop repeated names, and plain names that another line marks as shared.

    Args:
        lines: Names, with a leading ``*`` for shared ones.

    Returns:
        The distinct names in order of first appearance.
    """
    distinct = dict.fromkeys(lines)
    return [line for line in distinct if f"*{line}" not in distinct]


def pick_name(slot: str, split: str, names: dict[str, Names], rng: random.Random) -> tuple[str, str]:
    """Draw a name that may occur in a split.

    Args:
        slot: The slot to fill.
        split: The split of the row.
        names: All names by slot.
        rng: Random number generator.

    Returns:
        The name and its entity type.
    """
    choices = names[rng.choice(SLOT_GROUPS.get(slot, (slot,)))]
    own_part = "train" if split == "train" else "eval"
    part = "shared" if choices.by_part["shared"] and rng.random() < SHARED_NAME_RATE else own_part
    name = rng.choice(choices.by_part[part])
    return SHORT_FORMS.get(slot, str)(name), choices.entity_type


def fill(pattern: str, split: str, names: dict[str, Names], rng: random.Random) -> tuple[str, list[Span]]:
    """Fill the slots of an expanded pattern with different names.

    Args:
        pattern: The pattern without choices.
        split: The split of the row.
        names: All names by slot.
        rng: Random number generator.

    Returns:
        The sentence, starting with a capital letter, and its entity spans.
    """
    text, end, used, spans = "", 0, set(), []
    for match in SLOT.finditer(pattern):
        text += pattern[end : match.start()]
        name, entity_type = match[2], match[1]
        while name is None or name in used:
            name, entity_type = pick_name(match[1], split, names, rng)
        used.add(name)
        spans.append(Span(len(text), len(text) + len(name), entity_type))
        text += name
        end = match.end()
    text += pattern[end:]
    return text[0].upper() + text[1:], spans


def add_noise(text: str, rng: random.Random) -> str:
    """Lowercase some sentences, drop final punctuation or set typographic quotes, keeping entity offsets.

    Args:
        text: The sentence.
        rng: Random number generator.

    Returns:
        The sentence, changed or not.
    """
    if rng.random() < LOWERCASE_RATE:
        text = text.lower()
    if rng.random() < NO_FINAL_PUNCTUATION_RATE and text[-1] in ".!":
        text = text[:-1]
    if rng.random() < TYPOGRAPHIC_QUOTES_RATE:
        text = re.sub(r'(?<!\S)"', "“", text).replace('"', "”").replace("'", "’")
    return text


def split_word(word: str) -> Iterator[str]:
    """Split punctuation at either end and a final possessive off a word.

    Args:
        word: A piece of text without whitespace.

    Yields:
        The tokens in order; together they spell ``word``.
    """
    core = word.lstrip(PUNCTUATION)
    yield from word[: len(word) - len(core)]
    stem = core.rstrip(PUNCTUATION)
    if stem.endswith(POSSESSIVES) and len(stem) > 2:
        yield from (stem[:-2], stem[-2:])
    elif stem:
        yield stem
    yield from core[len(stem) :]


def tag_tokens(text: str, spans: list[Span]) -> tuple[list[str], list[str]]:
    """Split a sentence into tokens and tag them in the IOB2 scheme.

    Args:
        text: The sentence.
        spans: Its entity spans, which start and end at token boundaries.

    Returns:
        The tokens and their tags.
    """
    tokens, tags, position = [], [], 0
    for word in text.split():
        for token in split_word(word):
            position = text.index(token, position)
            span = next((span for span in spans if span.start <= position < span.end), None)
            prefix = "B" if span and span.start == position else "I"
            tokens.append(token)
            tags.append(f"{prefix}-{span.entity_type}" if span else "O")
            position += len(token)
    return tokens, tags


def make_row(template: Template, topic: str, split: str, names: dict[str, Names], rng: random.Random) -> dict:
    """Make one row from a template.

    Args:
        template: The template to expand and fill.
        topic: The topic of the row.
        split: The split of the row.
        names: All names by slot.
        rng: Random number generator.

    Returns:
        The row, as it is written to the file.
    """
    text, spans = fill(expand(template.pattern, rng), split, names, rng)
    text = add_noise(text, rng)
    tokens, tags = tag_tokens(text, spans)
    return {"text": text, "tokens": tokens, "topic": topic, "ner_tags": tags, "template": template.name}


def make_split(
    split: str, templates: dict[str, list[Template]], names: dict[str, Names], seen: set[str], rng: random.Random
) -> list[dict]:
    """Make the shuffled rows of a split, using its templates about equally often.

    Args:
        split: The split's name.
        templates: All templates by topic.
        names: All names by slot.
        seen: Normalized sentences made so far, which are not made again; extended in place.
        rng: Random number generator.

    Returns:
        The rows.
    """
    rows: list[dict] = []
    for topic in TOPICS:
        usable = [template for template in templates[topic] if template.part in (split, "shared")]
        rng.shuffle(usable)
        candidates = (make_row(template, topic, split, names, rng) for template in itertools.cycle(usable))
        rows.extend(itertools.islice(drop_seen(thin_out(candidates, rng), seen), ROWS_PER_TOPIC[split]))
    rng.shuffle(rows)
    return rows


def thin_out(rows: Iterable[dict], rng: random.Random) -> Iterator[dict]:
    """Drop some of the rows without an entity.

    Args:
        rows: The rows.
        rng: Random number generator.

    Yields:
        All rows with an entity, and ``NO_ENTITY_KEEP_RATE`` of the others.
    """
    for row in rows:
        if set(row["ner_tags"]) != {"O"} or rng.random() < NO_ENTITY_KEEP_RATE:
            yield row


def drop_seen(rows: Iterable[dict], seen: set[str]) -> Iterator[dict]:
    """Drop rows whose sentence occurred before, ignoring case, quote style and final punctuation.

    Args:
        rows: The rows.
        seen: Normalized sentences that occurred; extended in place.

    Yields:
        The rows with a new sentence.
    """
    for row in rows:
        key = row["text"].lower().replace("’", "'").rstrip(".!")
        if key not in seen:
            seen.add(key)
            yield row


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write rows as JSON Lines.

    Args:
        path: The file to write.
        rows: The rows.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line.

    Returns:
        Arguments with ``seed`` and ``output_dir``.
    """
    parser = argparse.ArgumentParser(description="Write the bundled train, validation and test data.")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: %(default)s)")
    parser.add_argument(
        "--output-dir", type=Path, default=OUTPUT_DIR, help="folder for the JSON Lines files (default: the package's)"
    )
    return parser.parse_args()


def main() -> None:
    """Write the three files."""
    arguments = parse_arguments()
    rng = random.Random(arguments.seed)
    templates = {topic: load_templates(topic, rng) for topic in TOPICS}
    names = load_names(rng)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    for split in ROWS_PER_TOPIC:
        rows = make_split(split, templates, names, seen, rng)
        write_rows(arguments.output_dir / f"{split}.jsonl", rows)
        print(f"{split}: {len(rows)} rows")


if __name__ == "__main__":
    main()
