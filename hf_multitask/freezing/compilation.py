"""Room for ``torch.compile`` over the stages of a schedule."""

from contextlib import AbstractContextManager

# A stage's graph for any shape, and those that Dynamo makes while it has seen one shape only.
GRAPHS_PER_STAGE = 4


def raise_recompile_limit(num_stages: int) -> AbstractContextManager:
    """Let Dynamo keep the graphs of all stages of a run.

    What trains is part of a graph, so that each stage has its own. At its limit of recompilations, 8, Dynamo goes on
    without compiling, and only a warning says so.

    Args:
        num_stages: Stages of the schedule.

    Returns:
        What raises the limit where it is entered, and brings it back.
    """
    # Importing it takes a second, which only runs that compile are to pay.
    from torch._dynamo import config

    return config.patch(recompile_limit=config.recompile_limit + GRAPHS_PER_STAGE * num_stages)
