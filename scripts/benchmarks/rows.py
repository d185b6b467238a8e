"""Generated rows like the rows of SNIPS: short requests with an intent and slots."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_multitask import TaskConfig

INTENTS = ("AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook", "SearchCreativeWork")
_COMMON_WORDS = (
    "a about add album and any are at be book by can current do eat find for forecast from get give going hear here i "
    "in is it know like listen looking make me movie my need new next of on onto out party people place play playlist "
    "please points put rate rating reservation restaurant schedule see serves should show six some song stars table "
    "tell that the there this three time to track tune tv two want watch weather what when where will with would you"
)
WORDS = _COMMON_WORDS.split()
NAMES = {
    "artist": "miles davis|björk|the rolling stones|avicii|nina simone|wu-tang clan|aretha franklin|sepultura",
    "city": "paris|new york|reykjavík|san francisco|mumbai|springfield|montreal|rio de janeiro|albuquerque",
    "genre": "jazz|drum and bass|electronica|bluegrass|reggaeton|heavy metal|synthpop",
    "playlist": "workout twerk|chill hits|clásicos de fiesta|indie española|this is beethoven|sunday soul mix",
    "restaurant_type": "tavern|steakhouse|brasserie|food court|gastropub|pizzeria",
    "time": "tomorrow|next thursday|in 1 hour|9 pm|february 4, 2021|noon|two weeks from now",
}
SLOTS = [(label, name.split()) for label, names in NAMES.items() for name in names.split("|")]
# As in SNIPS: 9 words per row, half of them in slots.
MEAN_LENGTH, LENGTH_DEVIATION, MIN_LENGTH, MAX_LENGTH = 9, 3, 2, 30
SLOT_SHARE = 0.3

TASKS = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]


def generate_rows(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Generate rows. The first n rows are the same for every count.

    Args:
        count: Number of rows.
        seed: Random seed.

    Yields:
        Rows with ``tokens``, ``slots`` (IOB2 tags) and ``intent``.
    """
    generator = random.Random(seed)
    for _ in range(count):
        length = min(max(round(generator.gauss(MEAN_LENGTH, LENGTH_DEVIATION)), MIN_LENGTH), MAX_LENGTH)
        tokens: list[str] = []
        slots: list[str] = []
        while len(tokens) < length:
            if generator.random() < SLOT_SHARE:
                label, name = generator.choice(SLOTS)
                tokens += name
                slots += [f"B-{label}", *[f"I-{label}"] * (len(name) - 1)]
            else:
                tokens.append(generator.choice(WORDS))
                slots.append("O")
        yield {"tokens": tokens, "slots": slots, "intent": generator.choice(INTENTS)}


def write_rows(path: Path, count: int) -> None:
    """Write generated rows to a JSONL file."""
    with path.open("w", encoding="utf-8") as file:
        for row in generate_rows(count):
            file.write(json.dumps(row) + "\n")
