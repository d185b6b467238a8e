"""Recommendations from the data and the machine: a freeze schedule, an encoder and learning rates, with reasons."""

from .recommend import recommend_schedule
from .recommendation import Recommendation

__all__ = ["Recommendation", "recommend_schedule"]
