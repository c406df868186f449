"""Contexts that are handed out again."""

from toy_engine import toy_engine, toy_frame

from yolotrt_lab.engine import LendingEngine
from yolotrt_lab.loop import LoopSettings
from yolotrt_lab.speed.overlap import OverlappedLoop


def test_context_comes_back_when_nobody_holds_it(device):
    engine = LendingEngine(toy_engine())
    first, second = engine.context(device), engine.context(device)
    assert first.buffers is not second.buffers
    memory = first.buffers
    first.enqueue(device.stream())
    del first
    assert engine.context(device).buffers is memory


def test_loops_after_each_other_run_in_the_same_contexts(device):
    engine, memory = LendingEngine(toy_engine()), []
    settings = LoopSettings(
        frames=6, input_memory="pinned", fill="in_place", graph=True, contexts=3, collect_after=2, postprocess=True
    )
    for _ in range(2):
        loop = OverlappedLoop(device, engine, settings, [toy_frame(0)])
        loop.run()
        memory.append({id(lane.context.buffers) for lane in loop.lanes.lanes})
        del loop
    assert len(memory[0]) == 3
    assert memory[0] == memory[1]


def test_context_comes_back_after_its_siblings(device):
    engine = LendingEngine(toy_engine())
    first = engine.context(device)
    memory, sibling = first.buffers, first.sibling(device)
    youngest = sibling.sibling(device)
    del first, sibling
    assert engine.context(device).buffers is not memory
    del youngest
    assert engine.context(device).buffers is memory
