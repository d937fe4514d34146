"""Functions in TorchScript that a GPU replays as graphs, with a stand-in for CUDA's."""

import contextlib
import types

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from isaacgym import scripts
from recorded_graph import Recorded

ORIGINAL = torch.jit.ScriptFunction.__call__


@torch.jit.script
def observe(state, actions, limit: float, axis: int) -> tuple[Tensor, Tensor]:
    to_target = 10.0 - state
    to_target[:, 2] = 0.0
    away = torch.where(to_target.norm(p=2, dim=-1) > limit, 1.0, 0.0)
    return torch.cat([to_target, actions, state[:, axis : axis + 1]], -1), away * actions[:, 0]


@torch.jit.script
def count(state, steps, ended):
    return steps + 1, torch.where(state[:, 0] > 0, torch.ones_like(ended), ended), steps


@torch.jit.script
def passes(state, other):
    return state + 1.0, other


@torch.jit.script
def weigh(state, scales: dict[str, float]):
    return state * scales["a"] + scales["b"]


@torch.jit.script
def longest(state):
    return state.norm(p=2, dim=-1).max()


@torch.jit.script
def away(state, by: float):
    return state + by


@torch.jit.script
def writes(state, by: float):
    state += by
    return state * 2.0


@torch.jit.script
def part(state):
    return state[:, :2]


@torch.jit.script
def twice(state):
    new = state + 1.0
    return new, new[:1]


@torch.jit.script
def waits(state):
    return -state if bool(state.sum() > 0) else state * 3.0


@torch.jit.script
def draws(state):
    return state + torch.rand_like(state)


@torch.jit.script
def prints(state):
    print("a number")
    return state + 1.0


@torch.jit.script
def counts(state):
    return state + 1.0, state.shape[0]


NOT_CAPTURED = [part, twice, waits, draws, prints, counts]


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ == "_local_scalar_dense":
            raise RuntimeError("called a synchronizing CUDA operation")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def graphs(monkeypatch):
    """Functions in TorchScript are replayed; the list of captured graphs."""
    made = []

    def graph(function, device):
        made.append(Recorded(function, device))
        return made[-1]

    def without_waiting(function):
        try:
            with NoWaiting():
                return function()
        except RuntimeError as error:
            raise scripts.Waits from error

    monkeypatch.setattr(scripts, "FIRST", -1)
    monkeypatch.setattr(scripts, "Graph", graph)
    monkeypatch.setattr(scripts, "_without_waiting", without_waiting)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: index)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.jit.ScriptFunction, "__call__", ORIGINAL)
    scripts.activate()
    yield made
    for function in (observe, count, passes, weigh, longest, away, writes, *NOT_CAPTURED):
        with contextlib.suppress(AttributeError):
            del function._script


def test_replayed_functions_return_what_they_compute(graphs):
    state, kept = torch.zeros(5, 4), []
    for k in range(20):
        state.normal_()  # in the same place, unlike the actions
        actions = torch.randn(5, 3)
        kept.append(actions)  # so that the next ones are elsewhere
        for limit in (5.0, 20.0):
            found = observe(state, actions, limit, 3)
            kept.append((found, ORIGINAL(observe, state, actions, limit, 3)))
        kept.append(((longest(state),), (ORIGINAL(longest, state),)))
        if k == 12:
            state = state.clone()
    for found, expected in (pair for pair in kept if type(pair) is tuple):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert len(graphs) == 6  # of three forms, again where the state has moved
    calls = [len(graph.calls) for graph in graphs]
    longest(state)
    assert [len(graph.calls) for graph in graphs] == calls


@pytest.mark.parametrize("function", NOT_CAPTURED, ids=lambda f: f.name)
def test_what_a_graph_cannot_do_is_called_as_it_is(graphs, function, capfd):
    state = torch.zeros(4, 3)
    for _ in range(8):
        state.normal_()
        torch.manual_seed(1)
        found = function(state)
        torch.manual_seed(1)
        expected = ORIGINAL(function, state)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert graphs == []
    assert capfd.readouterr().out.count("a number") == 16 * (function is prints)
    assert part(state).data_ptr() == state.data_ptr()


def test_a_result_that_is_an_argument_stays_that(graphs):
    state, steps, ended = torch.zeros(5, 4), torch.zeros(5), torch.zeros(5)
    with torch.inference_mode():
        for _ in range(8):
            steps = steps + 1
            found = count(state.normal_(), steps, ended)
            assert found[2] is steps
            assert all(map(torch.equal, found, ORIGINAL(count, state, steps, ended)))
    assert len(graphs) == 1


def test_which_argument_a_result_is_must_be_certain(graphs):
    a, b = torch.zeros(3), torch.ones(3)
    for _ in range(8):
        passes(a, a)
    assert passes(a, b)[1] is b


def test_empty_tensors_share_nothing(graphs):
    for rows in (0, 0, 0, 0, 4, 4, 4, 4, 4):
        passes(torch.ones(rows, 3), torch.ones(rows, 3))
    assert len(graphs) == 2


def test_a_second_activation_changes_nothing(graphs):
    call = torch.jit.ScriptFunction.__call__
    scripts.activate()
    assert torch.jit.ScriptFunction.__call__ is call


def test_numbers_by_name_are_compared_with_those_of_the_capture(graphs):
    state = torch.ones(3)
    for k in range(16):
        expected = torch.full((3,), 2.0 if k % 2 else 0.5)
        assert torch.equal(weigh(state, {"a": 1.0, "b": 1.0 if k % 2 else -0.5}), expected)
    assert len(graphs) == 2


def test_arguments_are_written_once_in_each_call(graphs):
    state = torch.zeros(3)
    for k in range(8):
        assert torch.equal(writes(state, 1.0), torch.full((3,), 2.0 * (k + 1)))
    assert graphs == []


def test_of_many_shapes_and_numbers_only_the_usual_ones_are_captured(graphs):
    usual = torch.zeros(7, 3)
    for n in range(50):
        for state in (torch.ones(n + 8, 3), usual.normal_()):
            assert longest(state) == ORIGINAL(longest, state)
        assert away(torch.full((2, 3), 1.0), float(n))[0, 0] == 1.0 + n
    assert len(graphs) == 1
    assert away._script.eager
    assert not longest._script.eager


def test_gradients_are_as_before(graphs):
    state, actions = torch.ones(2, 4), torch.ones(2, 3)
    for _ in range(8):
        actions.requires_grad_(False)
        observe(state, actions, 1.0, 3)
        actions.requires_grad_()
        actions.grad = None
        observe(state, actions, 1.0, 3)[1].sum().backward()
        assert torch.equal(actions.grad, torch.tensor([[1.0, 0.0, 0.0]] * 2))


def test_what_is_traced_or_mapped_is_called_as_it_is(graphs):
    state = torch.ones(4, 3)
    for _ in range(8):
        away(state, 1.0)
    assert len(graphs) == 1
    traced = torch.jit.trace(lambda x: away(x, 1.0), state)
    assert torch.equal(traced(torch.zeros(4, 3)), state)
    assert torch.equal(torch.vmap(lambda x: away(x, 1.0))(state[None]), 1 + state[None])


def put(x, whole: int, number: float):
    y = x.clone()
    y[:, 0] = number
    y[:, 1] = whole
    y[:, 2] = 0.5
    y[1] *= torch.tensor([whole, 2, 3], device=x.device)
    y[2] += torch.tensor([number, 0.5, number], device=x.device, dtype=x.dtype)
    rest = torch.tensor(whole, device=x.device), torch.tensor([number]), torch.tensor(True)
    return y, torch.tensor(7, device=x.device, dtype=torch.float64), rest


def scripted_twice(function):
    """Two functions in TorchScript, which keeps one of each Python function."""
    copied = types.FunctionType(function.__code__, function.__globals__)
    copied.__annotations__, copied.__defaults__ = function.__annotations__, function.__defaults__
    return torch.jit.script(function), torch.jit.script(copied)


def test_numbers_are_made_on_the_device_with_the_same_types(graphs):
    before, after = scripted_twice(put)
    scripts.make_numbers_on_device(after.graph)
    for dtype in (torch.float32, torch.float64, torch.int64):
        x = torch.arange(12).view(4, 3).to(dtype)
        for _ in range(3):
            flat = [[*result[:2], *result[2]] for result in (f(x, 3, 2.5) for f in (before, after))]
            assert [v.dtype for v in flat[0]] == [v.dtype for v in flat[1]]
            assert all(map(torch.equal, *flat))
    left = after.graph.findAllNodes("aten::tensor", True)
    assert len(left) == 1  # of a truth value


def change(x, n: int, dtype: torch.dtype | None = None):
    grown, other = [1.0], [1.0, 2.0]
    grown.append(2.0)
    other[0] = 5.0
    made = torch.tensor(grown, device=x.device), torch.tensor(other, device=x.device)
    return *made, torch.tensor(n, dtype=dtype, device=x.device)


def test_lists_that_change_and_types_that_may_be_none_stay_as_they_are():
    before, after = scripted_twice(change)
    scripts.make_numbers_on_device(after.graph)
    results = [f(torch.zeros(1), 3) for f in (before, after)]
    assert [x.dtype for x in results[0]] == [x.dtype for x in results[1]]
    assert all(map(torch.equal, *results))
