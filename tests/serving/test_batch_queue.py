"""What shares a batch, what is refused, and what is dropped."""

import asyncio
import threading
import time

import pytest

from hf_multitask.serving.batch_queue import BatchQueue, Job
from hf_multitask.serving.errors import RequestError


class Model:
    """Records batches and computes them when it is told to."""

    def __init__(self):
        self.batches = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, jobs):
        self.free.wait(10)
        self.batches.append([job.texts[0] for job in jobs])
        return [list(job.texts) for job in jobs]


def run(scenario, max_batch=4, max_wait=0.0, max_texts=100, threads=1):
    """Run a coroutine function with a queue, a model and a function that puts texts; return the batches."""

    async def main():
        model = Model()
        queue = BatchQueue(model, max_batch, max_wait, max_texts, threads=threads)
        queue.start()

        def put(*texts, kind="a"):
            result = asyncio.get_running_loop().create_future()
            queue.put(Job(kind, texts, max(map(len, texts)), result))
            return result

        await scenario(queue, model, put)
        await asyncio.to_thread(queue.close)
        return model.batches

    return asyncio.run(main())


async def occupy(model, put):
    """Let the model compute a first batch until it is set free."""
    model.free.clear()
    first = put("first")
    await asyncio.sleep(0.05)
    return first


def test_like_lengths_and_the_oldest_share_a_batch():
    async def scenario(queue, model, put):
        first = await occupy(model, put)
        results = [put("x" * size) for size in (3, 90, 4, 95, 5, 99, 2, 94)]
        model.free.set()
        await asyncio.gather(first, *results)

    _, *batches = run(scenario)
    assert sorted(map(len, batches[0])) == [2, 3, 4, 5]
    assert sorted(map(len, batches[1])) == [90, 94, 95, 99]


def test_other_options_are_another_batch_and_a_long_list_is_its_own():
    async def scenario(queue, model, put):
        first = await occupy(model, put)
        results = [put("a"), put("b", kind="b"), put("c"), put(*"defghi"), put("j", kind="b")]
        model.free.set()
        await asyncio.gather(first, *results)
        assert results[3].result() == list("defghi")

    assert run(scenario)[1:] == [["a", "c"], ["b", "j"], ["d"]]


def test_a_job_that_comes_alone_does_not_wait():
    async def scenario(queue, model, put):
        await put("a")
        start = time.monotonic()
        for _ in range(5):
            await put("b")
        assert time.monotonic() - start < 5

    run(scenario, max_wait=5.0)


def test_jobs_wait_for_as_many_as_there_were():
    async def scenario(queue, model, put):
        await put(*"aaa")
        early = put("b")
        await asyncio.sleep(0.1)
        assert not early.done()
        await asyncio.gather(early, put("c"), put("d"))

    assert run(scenario, max_wait=20.0)[-1] == ["b", "c", "d"]


def test_who_has_just_got_an_answer_is_waited_for():
    async def scenario(queue, model, put):
        first = await occupy(model, put)
        early = put("a")
        model.free.set()
        await first
        await asyncio.sleep(0.1)
        assert not early.done()
        await asyncio.gather(early, put("b"))

    assert run(scenario, max_wait=20.0) == [["first"], ["a", "b"]]


def test_nobody_is_waited_for_longer_than_is_allowed():
    async def scenario(queue, model, put):
        await put(*"abc")
        await asyncio.wait_for(put("d"), 10)

    assert run(scenario, max_wait=0.1) == [["a"], ["d"]]


def test_free_threads_share_what_waits():
    async def scenario(queue, model, put):
        await put(*"wxyz")
        model.free.clear()
        results = [put(name) for name in "abcd"]
        await asyncio.sleep(0.1)
        assert queue.num_texts == 0  # both threads have a batch, before one has computed
        model.free.set()
        await asyncio.gather(*results)

    first, *batches = run(scenario, max_batch=8, max_wait=20.0, threads=2)
    assert first == ["w"]
    assert sorted(batches) == [["a", "b"], ["c", "d"]]


def test_a_full_queue_refuses_and_takes_again():
    async def scenario(queue, model, put):
        first = await occupy(model, put)
        waiting = put("a", "b", "c")
        with pytest.raises(RequestError, match="3 texts wait already, of at most 4") as refusal:
            put("d", "e")
        assert refusal.value.status == 429
        assert int(refusal.value.headers["Retry-After"]) >= 1
        model.free.set()
        await asyncio.gather(first, waiting)
        await put("d", "e")

    run(scenario, max_texts=4)


def test_a_dropped_job_makes_room_and_leaves_those_that_wait():
    async def scenario(queue, model, put):
        await put(*"abc")
        result = asyncio.get_running_loop().create_future()
        job = Job("a", ["gone"] * 2, 4, result)
        queue.put(job)
        await asyncio.sleep(0.05)  # the thread waits for a third text
        queue.drop(job)
        queue.drop(job)
        assert queue.num_texts == 0
        await asyncio.sleep(0.4)
        assert queue.is_running
        await put("d", "e", "f", "g")

    assert run(scenario, max_wait=0.2, max_texts=4) == [["a"], ["d"]]


def test_what_is_canceled_is_not_computed_and_what_waits_at_the_end_is():
    async def scenario(queue, model, put):
        await occupy(model, put)
        gone, waiting = put("gone"), put("waiting")
        gone.cancel()
        threading.Timer(0.1, model.free.set).start()
        await asyncio.to_thread(queue.close)
        assert (await waiting) == ["waiting"]
        assert not queue.is_running

    assert run(scenario) == [["first"], ["waiting"]]
