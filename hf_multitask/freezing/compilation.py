"""Recompile limit of ``torch.compile`` for a schedule with several stages."""

from contextlib import AbstractContextManager

# One graph per stage for any shape, and the graphs that Dynamo compiles while it has seen only one shape.
GRAPHS_PER_STAGE = 4


def raise_recompile_limit(num_stages: int) -> AbstractContextManager:
    """Raise Dynamo's recompile limit so that it keeps the graphs of all stages.

    A graph depends on the groups that train, so each stage has its own. At its limit of 8 recompilations, Dynamo
    continues without compiling and only logs a warning.

    Args:
        num_stages: Number of stages in the schedule.

    Returns:
        Context manager that raises the limit and restores it.
    """
    # The import takes a second, which only runs that compile should pay.
    from torch._dynamo import config

    return config.patch(recompile_limit=config.recompile_limit + GRAPHS_PER_STAGE * num_stages)
