"""Every graph is checked by running it: its nodes, one by one, on the real inputs, against the network itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._pytree import tree_flatten, tree_map

from benchmarks.zoo import torchvision
from visavis.blocks._trace import Geometry, Value, overlay, trace
from visavis.errors import InputError


def replay(graph, *inputs):
    known = dict(zip(graph.inputs, inputs, strict=True))

    def actual(leaf):
        if not isinstance(leaf, Value):
            return leaf
        if leaf.kind in ("parameter", "buffer", "constant"):
            return leaf.tensor.detach().clone()
        tensor = known[leaf]
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)

    for node in graph.nodes:
        args, kwargs = tree_map(actual, (node.args, node.kwargs))
        returned = [leaf for leaf in tree_flatten(node.op(*args, **kwargs))[0] if isinstance(leaf, torch.Tensor)]
        known.update(zip(node.outputs, returned, strict=False))
    return [actual(value) for value in graph.outputs]


class Of(nn.Module):
    """A function as a network."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *args):
        return self.function(*args)


SEED = 7


@pytest.mark.parametrize("fake", [True, False])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "swin_t", "vit_b_32"])
def test_a_network_replayed(name, fake):
    torch.manual_seed(SEED)
    model = torchvision.models.get_model(name).eval()
    x = torch.randn(1, 3, 224, 224)
    graph = trace(model, x, fake=fake)
    with torch.no_grad():
        expected = model(x)
    # In another order of the same sums, so equal up to float32 rounding.
    torch.testing.assert_close(replay(graph, x), [expected], rtol=1e-4, atol=1e-5)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["slice", "transpose", "flatten", "add_", "copy_", "double", "flip"]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30)
@given(STEPS)
def test_views_and_writes_in_any_order(steps):
    """Values are what the tensors were at that time, whichever view was written through."""

    def run(x):
        tensors = [x.clone()]
        for number, (step, first, second) in enumerate(steps):
            a, b = tensors[first % len(tensors)], tensors[second % len(tensors)]
            if step == "slice":
                tensors.append(a[..., : max(1, a.shape[-1] - 1)])
            elif step == "transpose":
                tensors.append(a.transpose(0, -1))
            elif step == "flatten":
                tensors.append(a.reshape(-1))
            elif step == "add_":
                a.add_(number)
            elif step == "copy_" and a.shape == b.shape:
                a.copy_(b.clone())
            elif step == "double":
                tensors.append(a * 2)
            elif step == "flip":
                a[..., 0] = a[..., -1] - 1
        return tensors

    x = torch.arange(24.0).reshape(2, 3, 4)
    for fake in (True, False):
        graph = trace(Of(run), x, fake=fake)
        for mine, theirs in zip(replay(graph, x), run(x), strict=True):
            assert torch.equal(mine, theirs)


def test_padding_that_writes_into_slices():
    model = nn.Conv2d(2, 3, 3, padding=2, padding_mode="circular").eval()
    x = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(SEED))
    graph = trace(model, x)
    assert "overlay" in {node.name for node in graph.nodes}
    torch.testing.assert_close(replay(graph, x)[0], model(x).detach())


def test_overlay_by_writing():
    memory = torch.arange(12.0)
    below = memory[2:].view(2, 5).clone()
    above = torch.full((3,), -1.0)
    memory[1:10:3] = above
    assert torch.equal(
        overlay(below, above, Geometry(2, (2, 5), (5, 1)), Geometry(1, (3,), (3,))), memory[2:].view(2, 5)
    )


def test_calls_name_the_modules_and_what_ran_inside():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), nn.ReLU()).eval()
    graph = trace(model, torch.empty(1, 1, 5, 5))
    assert [call.name for call in graph.calls] == ["0.0", "0.1", "0", "1", ""]
    assert [len(call.nodes) for call in graph.calls][-1] == len(graph.nodes)
    by_name = {call.name: call for call in graph.calls}
    assert by_name["0.1"].inputs == by_name["0.0"].outputs
    assert by_name[""].outputs == graph.outputs
    assert {graph.nodes[index].modules for index in by_name["0.1"].nodes} == {("", "0", "0.1")}
    norm = next(node for node in graph.nodes if "batch_norm" in node.name)
    names = {(value.kind, value.name) for value in norm.inputs}
    assert names >= {("parameter", "0.1.weight"), ("buffer", "0.1.running_mean")}


def test_a_shared_module_is_called_twice_under_one_name():
    shared = nn.Linear(3, 3)
    graph = trace(nn.Sequential(shared, shared), torch.empty(2, 3))
    assert [call.name for call in graph.calls] == ["0", "0", ""]


def test_depends_and_evaluate():
    def run(x):
        steps = torch.arange(4).flip(0)
        steps[1] = 9
        ones = torch.zeros_like(x).fill_(1)
        return x[:, torch.tensor([2, 0])], steps, torch.rand(3), x.sum(), ones

    graph = trace(Of(run), torch.empty(1, 3))
    picked, steps, noise, total, ones = graph.outputs
    depends = graph.depends()
    assert {picked, total} <= depends
    assert not {steps, noise, ones} & depends
    assert graph.evaluate(ones).tolist() == [[1.0, 1.0, 1.0]]
    assert graph.evaluate(steps).tolist() == [3, 9, 1, 0]
    assert graph.evaluate(noise) is None
    assert graph.evaluate(total) is None


def test_state_and_settings_stay():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.TransformerEncoderLayer(3, 1, batch_first=True)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trace(nn.Sequential(model[0]), torch.empty(4, 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_a_network_without_memory():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(10_000_000, 1_000_000), nn.ReLU())
    graph = trace(model, torch.empty(1, 10_000_000, device="meta"))
    assert graph.outputs[0].shape == (1, 1_000_000)
    assert graph.evaluate(graph.nodes[0].inputs[0]) is None


def test_attention_is_seen_as_its_operations():
    model = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    names = {node.name for node in trace(model, torch.empty(1, 5, 8)).nodes}
    assert "aten.native_layer_norm.default" in names
    assert not any("transformer_encoder_layer" in name or "native_multi_head" in name for name in names)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)

    def forward(self, x):
        x = self.first(x)
        return x + 1 if x.sum() > 0 else x - 1


def test_control_flow_that_looks_at_numbers():
    x = torch.ones(1, 3)
    with pytest.raises(InputError, match=r"model: expected a network that runs without looking at its input's numbers"):
        trace(Branching(), x)
    model = nn.Sequential(nn.ReLU(), Branching())
    with pytest.raises(
        InputError, match=r"_local_scalar_dense.default in 1 \(Branching\); nothing from there on was traced"
    ):
        trace(model, x)
    torch.testing.assert_close(replay(trace(model, x, fake=False), x)[0], model(x).detach())
    with pytest.raises(InputError, match=r"nonzero.* in the network \(Of\)"):
        trace(Of(torch.nonzero), x)


def test_inputs_that_do_not_fit():
    with pytest.raises(InputError, match=r"expected a network that runs on \[1, 4\], got RuntimeError in 1 \(Linear\)"):
        trace(nn.Sequential(nn.ReLU(), nn.Linear(3, 3)), torch.empty(1, 4))
