"""What is worth storing: decided from passes, layers, bytes and room alone."""

import pytest

from hf_multitask.freezing.activation_cache.cache_plan import FreeSpace, plan_store, usable_states

DEPTHS = {"encoder.1": 1, "encoder.2": 2, "encoder.3": 3, "heads": 4}
PLENTY = FreeSpace(disk=10**9, memory=10**9)


def plan(stages, mode="auto", found=(), bytes_each=100, room=PLENTY):
    return plan_store(mode, stages, DEPTHS, found, bytes_each, room)


@pytest.mark.parametrize(
    ("stages", "usable"),
    [
        ([("heads", 3)], {"heads": 3}),
        # Going down the layers, all states are known at the start.
        ([("heads", 1), ("encoder.3", 1), ("encoder.1", 2)], {"heads": 1, "encoder.3": 1, "encoder.1": 2}),
        # Frozen again: what enters the heads then is not known yet.
        ([("encoder.2", 1), ("heads", 5)], {"encoder.2": 1}),
        ([("encoder.2", 1), ("heads", 5), ("encoder.2", 2)], {"encoder.2": 3}),
        ([("heads", 1), ("encoder.1", 1), ("encoder.2", 9)], {"heads": 1, "encoder.1": 1}),
        # Behind a stage that trains everything, nothing is known.
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


def test_what_is_there_is_not_built_again():
    assert plan([("heads", 5)], found=["heads"]).entering == ()
    assert "there already" in plan([("heads", 5)], found=["heads"]).reason
    stages = [("heads", 5), ("encoder.3", 2)]
    assert plan(stages, found=["heads"]).entering == ("encoder.3",)
    # The rest alone must pay, too.
    assert plan([("heads", 5), ("encoder.3", 1)], found=["heads"]).entering == ()


def test_nothing_is_stored_where_everything_trains():
    assert plan([("embeddings", 9)], mode="always").entering == ()
    assert plan([("embeddings", 9)]).reason == "the lowest layers train"


def test_what_comes_first_is_stored_first_where_room_is_short():
    stages = [("heads", 5), ("encoder.3", 5), ("encoder.2", 5)]
    assert plan(stages, room=FreeSpace(disk=250, memory=10**9)).entering == ("heads", "encoder.3")
    none = plan(stages, room=FreeSpace(disk=99, memory=10**9))
    assert none.entering == ()
    assert none.reason == "each takes 100 B and there is room for 99 B"


def test_auto_stores_no_more_than_memory_can_hold():
    small = FreeSpace(disk=10**9, memory=50)
    assert plan([("heads", 9)], room=small).entering == ()
    assert plan([("heads", 9)], room=small).reason == "each takes 100 B and 50 B of memory are free"
    assert plan([("heads", 9)], mode="always", room=small).entering == ("heads",)
