"""What to freeze when, with which encoder and rates: worked out from the data and the machine, with reasons."""

from .advice import recommend_schedule
from .result import Recommendation

__all__ = ["Recommendation", "recommend_schedule"]
