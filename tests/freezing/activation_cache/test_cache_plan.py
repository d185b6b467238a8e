"""Plan of the activation cache: decided from passes, layers, sizes and free space only."""

import pytest

from hf_multitask.freezing.activation_cache.cache_plan import FreeSpace, plan_store, usable_states

DEPTHS = {"encoder.1": 1, "encoder.2": 2, "encoder.3": 3, "heads": 4}
PLENTY = FreeSpace(disk=10**9, memory=10**9)


def plan(stages, mode="auto", stored=(), bytes_each=100, free=PLENTY):
    return plan_store(mode, stages, DEPTHS, stored, bytes_each, free)


@pytest.mark.parametrize(
    ("stages", "usable"),
    [
        ([("heads", 3)], {"heads": 3}),
        # If each stage trains lower layers, all states are final at the start.
        ([("heads", 1), ("encoder.3", 1), ("encoder.1", 2)], {"heads": 1, "encoder.3": 1, "encoder.1": 2}),
        # Frozen again: the states that enter the heads are not final yet.
        ([("encoder.2", 1), ("heads", 5)], {"encoder.2": 1}),
        ([("encoder.2", 1), ("heads", 5), ("encoder.2", 2)], {"encoder.2": 3}),
        ([("heads", 1), ("encoder.1", 1), ("encoder.2", 9)], {"heads": 1, "encoder.1": 1}),
        # After a stage that trains everything, no state is final.
        ([("heads", 2), ("embeddings", 1), ("heads", 9)], {"heads": 2}),
        ([("embeddings", 1), ("heads", 9)], {}),
        ([], {}),
    ],
)
def test_states_are_usable_until_something_below_trains(stages, usable):
    found = usable_states(stages, DEPTHS)
    assert found == usable
    assert list(found) == list(usable)


def test_one_pass_is_not_worth_a_store():
    assert plan([("heads", 1)]).entering == ()
    assert plan([("heads", 1)]).reason == "it saves 4 passes through a layer and costs 4"
    assert plan([("heads", 1.5)]).entering == ("heads",)
    assert plan([("heads", 1), ("encoder.1", 1)]).entering == ("heads", "encoder.1")
    assert plan([("heads", 1)], mode="always").entering == ("heads",)


def test_stored_states_are_not_built_again():
    assert plan([("heads", 5)], stored=["heads"]).entering == ()
    assert "already stored" in plan([("heads", 5)], stored=["heads"]).reason
    stages = [("heads", 5), ("encoder.3", 2)]
    assert plan(stages, stored=["heads"]).entering == ("encoder.3",)
    # The other states must pay for themselves.
    assert plan([("heads", 5), ("encoder.3", 1)], stored=["heads"]).entering == ()


def test_nothing_is_stored_if_everything_trains():
    assert plan([("embeddings", 9)], mode="always").entering == ()
    assert plan([("embeddings", 9)]).reason == "the lowest layers train"


def test_states_of_earlier_stages_are_stored_first_if_space_is_short():
    stages = [("heads", 5), ("encoder.3", 5), ("encoder.2", 5)]
    assert plan(stages, free=FreeSpace(disk=250, memory=10**9)).entering == ("heads", "encoder.3")
    none = plan(stages, free=FreeSpace(disk=99, memory=10**9))
    assert none.entering == ()
    assert none.reason == "each takes 100 B and there is space for 99 B"


def test_auto_stores_no_more_than_memory_can_hold():
    small = FreeSpace(disk=10**9, memory=50)
    assert plan([("heads", 9)], free=small).entering == ()
    assert plan([("heads", 9)], free=small).reason == "each takes 100 B and 50 B of memory are free"
    assert plan([("heads", 9)], mode="always", free=small).entering == ("heads",)
