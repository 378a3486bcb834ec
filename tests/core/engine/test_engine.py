"""What the engine does when a step raises, over an executor that raises when told to."""

from __future__ import annotations

import pytest
from tests.fakes.executor import expected
from tests.fakes.faulty import LONGEST, Broken, FaultyExecutor, make_engine, request, run

from inferplane.errors import EngineDead
from inferplane.scheduler.request import Finish
from inferplane.spec import Fault

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def right(r) -> list[int]:
    return expected(r, r.tokens[: r.prompt_length].tolist(), LONGEST)


@pytest.fixture(params=[1, 2], ids=["depth 1", "depth 2"])
def executor(request) -> FaultyExecutor:
    return FaultyExecutor(depth=request.param)


class TestOutOfMemory:
    def test_ends_no_request(self, executor):
        engine, requests = make_engine(executor), [request(id) for id in ("a", "bb", "ccc")]
        executor.faults[2] = Broken(Fault.MEMORY)
        for r in requests:
            engine.add(r)
        wanted = {r.id: right(r) for r in requests}
        assert {id: output.tokens for id, output in run(engine).items()} == wanted
        assert engine.stats.faults == {"memory": 1}

    def test_settles_the_device_before_the_next_launch(self, executor):
        engine = make_engine(executor)
        executor.faults[1] = Broken(Fault.MEMORY)
        engine.add(request("a"))
        run(engine)
        assert executor.settled == 1

    def test_lets_go_of_the_tensors_in_the_frames_of_the_error(self, executor):
        freed = []

        class Tensor:
            def __del__(self) -> None:
                freed.append(True)

        def kernel() -> None:
            held = Tensor()
            raise Broken(Fault.MEMORY, f"{held!r} does not fit")

        try:
            kernel()
        except Broken as error:
            executor.faults[1] = error
        engine = make_engine(executor)
        engine.add(request("a"))
        seen = []
        executor.settle = lambda: seen.append(list(freed))
        run(engine)
        assert seen == [[True]]

    def test_finds_a_size_that_fits(self, executor):
        executor.fits = lambda batch: batch.tokens <= 5
        engine, r = make_engine(executor), request("a", list(range(40)))
        engine.add(r)
        assert run(engine)["a"].tokens == right(r)
        assert engine.stats.faults["memory"] <= 6

    def test_refuses_a_request_that_fits_nowhere_with_numbers(self, executor):
        executor.fits = lambda batch: (batch.starts + batch.counts <= 9).all()
        engine = make_engine(executor)
        engine.add(request("large", list(range(12))))
        engine.add(request("small", max_tokens=2))
        found = run(engine)
        assert found["large"].finish is Finish.ERROR
        assert "the last one in a step of 1 requests and 1 tokens" in found["large"].error
        assert "0.10 of 4.00 GiB are free" in found["large"].error
        assert found["small"].finish is Finish.LENGTH

    def test_that_never_ends_answers_every_request(self, executor):
        executor.fits = lambda batch: False
        engine = make_engine(executor)
        for id in ("a", "bb", "ccc"):
            engine.add(request(id))
        found = run(engine, most=60)
        assert [output.finish for output in found.values()] == [Finish.ERROR] * 3


class TestKernelError:
    def test_ends_the_requests_of_its_step_only(self, executor):
        engine = make_engine(executor)
        executor.faults[1] = Broken(Fault.KERNEL)
        requests = [request(f"{at}", [at, 1, 2]) for at in range(6)]
        for r in requests:
            engine.add(r)
        found = run(engine)
        assert [found[f"{at}"].finish for at in range(4)] == [Finish.ERROR] * 4
        assert [found[f"{at}"].tokens for at in (4, 5)] == [right(r) for r in requests[4:]]

    def test_is_told_in_one_line(self, executor):
        engine = make_engine(executor)
        executor.faults[1] = Broken(Fault.KERNEL)
        engine.add(request("a"))
        assert run(engine)["a"].error == "the step failed: Broken: it broke"

    def test_raised_while_launching_is_the_same(self, executor):
        engine = make_engine(executor)

        def launch(batch):
            executor.launch = real
            executor.broken = True
            raise Broken(Fault.KERNEL)

        real, executor.launch = executor.launch, launch
        engine.add(request("a"))
        assert run(engine)["a"].finish is Finish.ERROR

    def test_told_by_a_later_launch_ends_the_requests_of_both_steps(self):
        """Whose it is cannot be known, and what the first step gave may be garbage."""
        executor = FaultyExecutor(depth=2)
        engine, r = make_engine(executor), request("later", [4, 5, 6])
        launch = executor.launch

        def failing(batch):
            if executor.launched:
                executor.launch, executor.broken = launch, True
                raise Broken(Fault.KERNEL)
            return launch(batch)

        executor.launch = failing
        engine.add(request("a", list(range(32))))  # the whole first step
        engine.add(request("bb"))
        engine.add(r)
        engine.step()
        found = run(engine)
        assert [found[id].finish for id in ("a", "bb", "later")] == [Finish.ERROR] * 3
        assert all(found[id].tokens == [] for id in found)

    def test_of_memory_in_a_later_launch_leaves_the_first_step_alone(self):
        executor = FaultyExecutor(depth=2)
        engine, r = make_engine(executor), request("a")
        launch = executor.launch

        def failing(batch):
            if executor.launched:
                executor.launch, executor.broken = launch, True
                raise Broken(Fault.MEMORY)
            return launch(batch)

        executor.launch = failing
        engine.add(r)
        assert run(engine)["a"].tokens == right(r)

    def test_that_turns_up_again_while_settling_is_let_pass(self, executor):
        engine = make_engine(executor)
        executor.faults[1] = Broken(Fault.KERNEL)
        executor.settling = [Broken(Fault.KERNEL)]
        engine.add(request("a"))
        run(engine)
        assert not engine.dead


class TestLostDevice:
    def lose(self, executor):
        engine = make_engine(executor)
        executor.faults[2] = Broken(Fault.LOST)
        for id in ("a", "bb", "ccc", "dddd", "eeeee"):
            engine.add(request(id))
        with pytest.raises(EngineDead, match="the device is lost: Broken: it broke"):
            run(engine)
        return engine

    def test_ends_the_engine(self, executor):
        engine = self.lose(executor)
        assert "it broke" in engine.dead
        with pytest.raises(EngineDead):
            engine.step()
        with pytest.raises(EngineDead):
            engine.add(request("later"))

    def test_leaves_invariants_and_no_request(self, executor):
        engine = self.lose(executor)
        engine.check_invariants()
        assert engine.unfinished == 0

    def test_is_what_an_error_is_that_the_platform_cannot_sort(self, executor):
        engine = make_engine(executor)
        executor.faults[1] = OSError("what is this")
        engine.add(request("a"))
        with pytest.raises(EngineDead, match="what is this"):
            run(engine)

    @pytest.mark.parametrize("errors", [[Fault.LOST], [Fault.KERNEL] * 3])
    def test_is_a_device_that_does_not_come_to_rest(self, executor, errors):
        engine = make_engine(executor)
        executor.faults[1] = Broken(Fault.KERNEL)
        executor.settling = [Broken(fault) for fault in errors]
        engine.add(request("a"))
        with pytest.raises(EngineDead):
            run(engine)

    def test_behind_another_error_is_still_lost(self):
        executor = FaultyExecutor(depth=2)
        executor.faults = {1: Broken(Fault.MEMORY), 2: Broken(Fault.LOST)}
        engine = make_engine(executor)
        engine.add(request("a", list(range(40))))
        with pytest.raises(EngineDead):
            run(engine)


class TestWrongNumbers:
    def test_end_their_row_and_are_counted(self, executor):
        engine, requests = make_engine(executor), [request("a"), request("bb")]
        executor.wrong[1] = {0: "not finite at position 5"}
        for r in requests:
            engine.add(r)
        found = run(engine)
        assert found["a"].error == "not finite at position 5"
        assert found["bb"].tokens == right(requests[1])
        assert engine.stats.faults == {"numerics": 1}


def test_an_interrupted_launch_leaves_an_engine_that_goes_on(executor):
    engine, r = make_engine(executor), request("a")
    engine.add(r)

    def launch(batch):
        executor.launch = real
        raise KeyboardInterrupt

    real, executor.launch = executor.launch, launch
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    assert run(engine)["a"].tokens == right(r)
