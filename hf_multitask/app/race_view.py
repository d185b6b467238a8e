"""The results of a race: its sentence, its price list, and the scores after each rung."""

from pathlib import Path

import gradio as gr
import pandas as pd

from ..study import Race
from ..study.race_results import load_race, price_table, rung_table
from .markup import notice, table
from .run_view import plot_update
from .study_view import StudyView, price_chart

OUT_OF_TIME = "The race was ended before it was over: Continue goes on."


def show_race(folder: Path) -> StudyView:
    """Return the updates that show the results of a race.

    Args:
        folder: Folder of the race.

    Raises:
        ValueError: If the results are damaged.
        OSError: If they are missing.
    """
    race = load_race(folder)
    prices = price_table(race)
    return StudyView(
        advice=notice(f"{race.recommendation} {OUT_OF_TIME if race.out_of_time else ''}".strip()),
        prices=table(prices.header, prices.rows, prices.caption),
        chart=price_chart([(round(price.minutes, 3), price.full_score, price.scenario) for price in race.prices]),
        details=gr.Accordion(visible=True),
        results=gr.Dataframe(_rungs(race)),
        curve=gr.Dropdown(visible=False),
        size=gr.Dropdown(visible=False),
        plot=plot_update([]),
    )


def _rungs(race: Race) -> pd.DataFrame:
    """Return the tables of the rungs as one, the last rung first."""
    tables = []
    for result in reversed(race.rungs):
        cells = rung_table(result)
        # The best scenario of each rung is another, so the columns have a name that does not contain it.
        header = ["difference from the best" if name.startswith("vs. ") else name for name in cells.header]
        tables.append(pd.DataFrame(cells.rows, columns=header).assign(rung=result.rung.text))
    return pd.concat(tables, ignore_index=True)
