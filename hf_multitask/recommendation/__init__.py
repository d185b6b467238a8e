"""What to freeze when, with which encoder and rates: worked out from the data and the machine, with reasons."""

from .recommend import recommend_schedule
from .recommendation import Recommendation

__all__ = ["Recommendation", "recommend_schedule"]
