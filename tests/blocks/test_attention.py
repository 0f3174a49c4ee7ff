"""The oracle is the definition with every weight of every query written out, in float64."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from visavis.blocks.attention import State, cosine_features, elu_features, linear
from visavis.errors import InputError, TensorError

MAPS = {
    "elu": lambda x: torch.where(x > 0, x + 1, x.exp()),
    "relu": lambda x: x * (x > 0),
    "squared": lambda x: x**2 * (x > 0),
    "cosine": lambda x: torch.cat([torch.ones_like(x[..., :1]), x / x.norm(dim=-1, keepdim=True)], -1),
    "identity": lambda x: x,
}
IN_PASSES = ("elu", "relu", "squared", "identity")


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def three(*lead, queries, keys=None, features=4, values=3, scale=1.0):
    keys = queries if keys is None else keys
    sizes = ((queries, features), (keys, features), (keys, values))
    return [drawn(*lead, *size, seed=seed, scale=scale) for seed, size in enumerate(sizes)]


def weights(q, k, name="elu", *, causal=False, mask=None, decay=None):
    """[..., L, M], not divided by their sums."""
    features = MAPS.get(name, name)
    table = features(q.double()) @ features(k.double()).transpose(-2, -1)
    if causal:
        places = torch.arange(table.shape[-1])
        back = places[:, None] - places
        table = table * (back >= 0)
        if decay is not None:
            table = table * torch.as_tensor(decay).double()[..., None, None] ** back.clamp_min(0)
    return table if mask is None else torch.where(mask, table, 0)


def quadratic(q, k, v, name="elu", *, normalize=True, **options):
    table = weights(q, k, name, **options)
    sums = table.sum(-1, keepdim=True)
    if normalize:
        table = table / (sums.abs().clamp_min(1) if name == "identity" else sums.clamp_min(1e-30))
    return table @ v.double()


def agree(ours, theirs, tensors, **tolerance):
    """Values and gradients, of results that depend on the same tensors."""
    torch.testing.assert_close(ours, theirs, **tolerance)
    upstream = drawn(*theirs.shape, seed=9)
    for mine, wanted in zip(
        torch.autograd.grad(ours, tensors, upstream), torch.autograd.grad(theirs, tensors, upstream), strict=True
    ):
        torch.testing.assert_close(mine, wanted, **tolerance)


CASES = [
    *[(name, {}) for name in MAPS],
    *[(name, {"causal": True}) for name in MAPS],
    ("elu", {"causal": True, "decay": [0.5, 0.97, 1.0]}),
    ("identity", {"causal": True, "decay": [0.9, 0.99, 1.0]}),
    ("identity", {"causal": True, "normalize": False}),
    ("relu", {"normalize": False}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_lengths_from_1_to_300_are_the_definition(name, options):
    options = {key: torch.tensor(value) if key == "decay" else value for key, value in options.items()}
    for length in range(1, 301) if name == "elu" else (*range(1, 67), *range(67, 301, 9)):
        tensors = [x.requires_grad_() for x in three(3, queries=length)]
        ours = linear(*tensors, feature_map=name, **options)
        agree(ours, quadratic(*tensors, name, **options), tensors, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
def test_every_length_in_single_precision(causal):
    for length in range(1, 301, 7):
        q, k, v = (x.float() for x in three(2, queries=length, features=16, values=16))
        ours = linear(q, k, v, causal=causal)
        torch.testing.assert_close(ours.double(), quadratic(q, k, v, causal=causal), rtol=2e-5, atol=2e-6)


@given(
    st.lists(st.integers(1, 3), max_size=3),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from(IN_PASSES),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_shape_and_mask(lead, queries, keys, features, values, name, causal, random):
    keys = queries if causal else keys
    q, k, v = tensors = [
        x.requires_grad_() for x in three(*lead, queries=queries, keys=keys, features=features, values=values)
    ]
    shape = [size if random.random() < 0.5 else 1 for size in lead]
    mask = torch.tensor([random.random() < 0.7 for _ in range(math.prod(shape) * keys)]).view(*shape, 1, keys)
    ours = linear(q, k, v, feature_map=name, causal=causal, mask=mask)
    agree(ours, quadratic(q, k, v, name, causal=causal, mask=mask), tensors, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", [*MAPS, "softmax"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_query_that_sees_nothing_is_zero(name, causal):
    if name == "softmax" and causal:
        return
    tensors = [x.requires_grad_() for x in three(2, 2, queries=70)]
    mask = torch.ones(2, 1, 1, 70, dtype=torch.bool)
    mask[0] = False
    mask[1, ..., :3] = False
    y = linear(*tensors, feature_map=name, causal=causal, mask=mask)
    assert torch.equal(y[0], torch.zeros_like(y[0]))
    assert not causal or torch.equal(y[1, :, :3], torch.zeros_like(y[1, :, :3]))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(y.square().sum(), tensors))


@pytest.mark.parametrize("name", [*MAPS, "softmax", torch.exp])
@pytest.mark.parametrize("twice", [False, True])
def test_nan_in_padding_does_not_come_through(name, twice):
    q, k, v = three(2, queries=80)
    mask = torch.arange(80) < 75
    clean = [x.clone().requires_grad_() for x in (q, k, v)]
    k[:, 75:], v[:, 75:] = math.nan, math.inf
    dirty = [x.requires_grad_() for x in (q, k, v)]
    ours, wanted = (linear(*tensors, feature_map=name, mask=mask) for tensors in (dirty, clean))
    assert torch.equal(ours, wanted)
    for mine, theirs in zip(
        torch.autograd.grad(ours.square().sum(), dirty, create_graph=twice),
        torch.autograd.grad(wanted.square().sum(), clean, create_graph=twice),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


def test_efficient_attention():
    q, k, v = tensors = [x.requires_grad_() for x in three(2, 2, queries=20, keys=33)]
    agree(linear(q, k, v, feature_map="softmax"), q.softmax(-1) @ (k.softmax(-2).transpose(-2, -1) @ v), tensors)
    kept = [q, k[..., :30, :], v[..., :30, :]]
    masked = linear(q, k, v, feature_map="softmax", mask=torch.arange(33) < 30)
    torch.testing.assert_close(masked, linear(*kept, feature_map="softmax"))


def test_a_map_for_q_and_one_for_k():
    q, k, v = three(2, queries=9)
    ours = linear(q, k, v, feature_map=(torch.exp, elu_features))
    table = q.exp() @ MAPS["elu"](k).transpose(-2, -1)
    torch.testing.assert_close(ours, table / table.sum(-1, keepdim=True) @ v)


SPLITS = st.lists(st.integers(0, 90), max_size=4).map(lambda cuts: [0, *sorted(cuts), 90])


@pytest.mark.parametrize("name", MAPS)
@given(splits=SPLITS, decay=st.sampled_from([None, 0.8, 1.0]))
def test_cut_anywhere_it_is_the_same(name, splits, decay):
    q, k, v = three(2, queries=90)
    whole, last = linear(q, k, v, feature_map=name, causal=True, decay=decay, return_state=True)
    state, parts = None, []
    for start, stop in itertools.pairwise(splits):
        part = [x[:, start:stop] for x in (q, k, v)]
        y, state = linear(*part, feature_map=name, causal=True, decay=decay, state=state, return_state=True)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-7, atol=1e-9)
    for mine, wanted in zip(state, last, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoding_place_by_place(dtype):
    q, k, v = (x.to(dtype) for x in three(1, 2, queries=150, features=16, values=16))
    state, parts = None, []
    for place in range(150):
        part = [x[..., place : place + 1, :] for x in (q, k, v)]
        y, state = linear(*part, causal=True, state=state, return_state=True)
        parts.append(y)
    assert state.context.dtype == state.total.dtype == torch.float32
    eps = max(2e-6, torch.finfo(dtype).eps)
    torch.testing.assert_close(torch.cat(parts, 2), linear(q, k, v, causal=True), rtol=eps, atol=eps)


@pytest.mark.parametrize("normalize", [False, True])
def test_keys_in_portions(normalize):
    q, k, v = three(2, queries=5, keys=40)
    _, state = linear(q, k[:, :25], v[:, :25], normalize=normalize, return_state=True)
    y, after = linear(q, k[:, 25:], v[:, 25:], normalize=normalize, state=state, return_state=True)
    torch.testing.assert_close(y, quadratic(q, k, v, normalize=normalize))
    torch.testing.assert_close(after.total, MAPS["elu"](k).sum(1))


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_go_through_the_state(causal):
    tensors = [x.requires_grad_() for x in three(2, queries=150)]
    q, k, v = tensors
    first, state = linear(q[:, :67], k[:, :67], v[:, :67], causal=causal, return_state=True)
    rest = linear(q[:, 67:], k[:, 67:], v[:, 67:], causal=causal, state=state)
    if causal:
        agree(torch.cat([first, rest], 1), quadratic(q, k, v, causal=True), tensors, rtol=1e-9, atol=1e-9)
    else:
        agree(rest, quadratic(q[:, 67:], k, v), tensors, rtol=1e-9, atol=1e-9)


def options_with_state():
    for name in IN_PASSES:
        for causal, decay in ((False, None), (True, None), (True, 0.7)):
            for mask in (None, torch.arange(7) % 3 > 0):
                yield pytest.param(
                    name, {"causal": causal, "decay": decay, "mask": mask}, id=f"{name} {causal} {decay}"
                )


@pytest.mark.parametrize(("name", "options"), list(options_with_state()))
def test_first_and_second_derivatives(name, options, monkeypatch):
    for module in ("_passes", "_autograd"):  # pieces of three, so that there are several
        monkeypatch.setattr(f"visavis.blocks.attention.{module}.causal_rows", lambda *_: 3)
    inputs = [x.requires_grad_() for x in three(1, queries=7, features=2, values=2)]
    sums = [drawn(1, 2, 2, seed=4).requires_grad_(), drawn(1, 2, seed=5).abs().requires_grad_()]

    def run(q, k, v, context, total):
        y, state = linear(q, k, v, feature_map=name, state=State(context, total), return_state=True, **options)
        return y, *state

    assert torch.autograd.gradcheck(run, (*inputs, *sums))
    assert torch.autograd.gradgradcheck(run, (*inputs, *sums))


@pytest.mark.parametrize("name", ["cosine", "softmax", torch.exp])
def test_derivatives_through_maps_outside_the_passes(name):
    inputs = [x.requires_grad_() for x in three(2, queries=5, features=3, values=2)]
    assert torch.autograd.gradcheck(lambda *x: linear(*x, feature_map=name), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: linear(*x, feature_map=name), inputs)


@pytest.mark.parametrize("causal", [False, True])
def test_stored_states_keep_the_gradients_precise(causal):
    """As states are kept and not taken back from those after them; rounding is some 1e-7 of 32 pieces."""
    tensors = [x.float().requires_grad_() for x in three(1, queries=2048, features=32, values=32)]
    exact = [x.detach().double().requires_grad_() for x in tensors]
    upstream = drawn(1, 2048, 32, seed=9)
    ours = torch.autograd.grad(linear(*tensors, causal=causal), tensors, upstream.float())
    wanted = torch.autograd.grad(quadratic(*exact, causal=causal), exact, upstream)
    for mine, theirs in zip(ours, wanted, strict=True):
        assert (mine - theirs).norm() < 2e-6 * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_is_rounded_once(dtype, causal):
    tensors = [x.to(dtype).requires_grad_() for x in three(2, 2, queries=300, features=16, values=16, scale=2.0)]
    y = linear(*tensors, causal=causal)
    assert y.dtype == dtype
    eps = max(torch.finfo(dtype).eps, 2e-6)  # in float32 it is the two sums over 300 keys that round
    wanted = quadratic(*tensors, causal=causal)
    torch.testing.assert_close(y.double(), wanted, rtol=eps, atol=eps)
    upstream = drawn(*y.shape, seed=9).to(dtype)
    exact = torch.autograd.grad(wanted, tensors, upstream.double())
    for mine, theirs in zip(torch.autograd.grad(y, tensors, upstream), exact, strict=True):
        assert mine.dtype == dtype
        assert (mine - theirs).norm() < 2 * eps * theirs.norm()


def test_autocast_does_not_round_within():
    q, k, v = (x.float() for x in three(2, queries=100))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = linear(q, k, v, feature_map=cosine_features)
    torch.testing.assert_close(ours, linear(q, k, v, feature_map="cosine"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [-1000.0, -90.0, -30.0, 0.0, 1e4])
@pytest.mark.parametrize("causal", [False, True])
def test_value_and_gradient_are_finite_whatever_the_scores(dtype, level, causal):
    q, k, v = (drawn(1, 1, 5, 4, seed=seed).to(dtype) for seed in range(3))
    inputs = [(q + level).requires_grad_(), k.requires_grad_(), v.requires_grad_()]
    for order in (inputs, [inputs[1], inputs[0], inputs[2]]):
        y = linear(*order, causal=causal)
        assert y.isfinite().all()
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(y.square().sum(), order))


def test_slope_of_the_features_at_zero_is_one():
    x = torch.zeros(1, requires_grad=True)
    elu_features(x).backward()
    assert x.grad == 1


def test_features_keep_their_precision_far_below_zero():
    x = torch.tensor([-60.0, -20.0, -0.0, 20.0])
    torch.testing.assert_close(elu_features(x).double(), MAPS["elu"](x.double()), rtol=3e-6, atol=0)
    k, v = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    y = linear(x[:, None], k, v, normalize=False)  # the passes take a power of two instead
    torch.testing.assert_close(y[:, 0].double(), MAPS["elu"](x.double()), rtol=6e-6, atol=0)


def test_a_mean_of_the_values_lies_between_them():
    q, k, v = (drawn(2, 2, 50, 8, seed=seed, scale=5.0) for seed in range(3))
    y = linear(q, k, v)
    assert (y <= v.amax(2, keepdim=True) + 1e-12).all()
    assert (y >= v.amin(2, keepdim=True) - 1e-12).all()
    constant = torch.full((2, 2, 50, 3), 0.7, dtype=torch.float64)
    torch.testing.assert_close(linear(q, k, constant), constant)


def test_the_future_does_not_matter():
    q, k, v = three(2, queries=200)
    y = linear(q, k, v, causal=True)
    k[:, 130:], v[:, 130:] = 50.0, -7.0
    torch.testing.assert_close(linear(q, k, v, causal=True)[:, :130], y[:, :130], rtol=0, atol=0)


def test_nothing_to_attend_to():
    q = drawn(1, 1, 3, 4)
    assert torch.equal(linear(q, q[:, :, :0], q[:, :, :0]), torch.zeros(1, 1, 3, 4, dtype=torch.float64))
    assert linear(q[:, :, :0], q, q).shape == (1, 1, 0, 4)
    for causal in (False, True):
        assert linear(q[:0], q[:0], q[:0], causal=causal).shape == (0, 1, 3, 4)
        y, state = linear(q[:, :, :0], q[:, :, :0], q[:, :, :0], causal=causal, return_state=True)
        assert y.shape == (1, 1, 0, 4)
        assert not state.context.any()
    assert torch.equal(linear(torch.full_like(q, -1e3), q, q), torch.zeros_like(q))  # exp(-1000) is no weight


def test_nan_stays_visible():
    q, k, v = (drawn(1, 1, 3, 4, seed=seed) for seed in range(3))
    q[0, 0, 1, 2] = math.nan
    assert linear(q, k, v).isnan().any(3).tolist() == [[[False, True, False]]]


@pytest.mark.parametrize("causal", [False, True])
def test_any_strides(causal):
    packed = drawn(2, 50, 3, 4, 8)  # batch, place, q k v, head, feature, as one product gives them
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(linear(q, k, v, causal=causal), quadratic(q, k, v, causal=causal))
    turned = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (q, k, v)]
    torch.testing.assert_close(linear(*turned, causal=causal), quadratic(q, k, v, causal=causal))


@pytest.mark.parametrize("causal", [False, True])
def test_function_transforms_and_compilation(causal):
    q, k, v = three(4, 2, queries=70)

    def loss(q, k, v):
        return linear(q, k, v, causal=causal).square().sum()

    torch.testing.assert_close(
        torch.vmap(lambda q, k, v: linear(q, k, v, causal=causal), in_dims=(0, None, 0))(q, k[0], v),
        linear(q, k[:1].expand_as(k), v, causal=causal),
    )
    singly = torch.vmap(torch.func.grad(loss))(q, k, v)
    together = q.clone().requires_grad_()
    torch.testing.assert_close(singly, torch.autograd.grad(loss(together, k, v), together)[0])
    traced = torch.compile(lambda q, k, v: linear(q, k, v, causal=causal), fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(q, k, v), linear(q, k, v, causal=causal))


@pytest.mark.parametrize("causal", [False, True])
def test_time_does_not_grow_with_the_square(causal):
    def flops(length):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            linear(*(torch.empty(1, 2, length, 8) for _ in range(3)), causal=causal)
        return counter.get_total_flops()

    assert flops(4096) <= 16.5 * flops(256)


Q = drawn(2, 3, 5, 4)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3,), (3,), (3,)), r"q: expected float \[..., length, features\], got torch.float64 \[3\]"),
        (((1, 1, 2, 3), (1, 2, 2, 3), (1, 1, 2, 3)), r"k: expected float \[1, 1, any, 3\], got float64 \[1, 2, 2, 3\]"),
        (((1, 1, 2, 3), (1, 1, 2, 3), (1, 1, 5, 3)), r"v: expected float \[1, 1, 2, any\], got float64 \[1, 1, 5, 3\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(TensorError, match=message):
        linear(*(drawn(*shape) for shape in shapes))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": Q.float()}, TensorError, "q, k, v: expected one dtype, got torch.float64, torch.float32 and"),
        ({"k": Q[:, :, :4], "v": Q[:, :, :4], "causal": True}, TensorError, r"k: expected float \[2, 3, 5, 4\]"),
        ({"mask": torch.ones(2, 5, dtype=torch.bool)}, TensorError, r"becomes mask\[:, None, None\]"),
        (
            {"mask": torch.ones(5)},
            TensorError,
            r"mask: expected bool that broadcasts to \[2, 3, 1, 5\], got torch.float",
        ),
        ({"feature_map": "gelu"}, InputError, "one of elu, relu, squared, cosine, softmax, identity, got 'gelu'"),
        ({"feature_map": "softmax", "causal": True}, InputError, "neither causal nor a state"),
        ({"feature_map": lambda x: x.mean(-2)}, TensorError, "feature_map: expected as many features of q"),
        ({"decay": 0.9}, InputError, "decay: expected causal=True"),
        ({"decay": 1.5, "causal": True}, InputError, r"decay: expected numbers in \(0, 1\], got 1.5"),
        ({"decay": math.nan, "causal": True}, InputError, r"decay: expected numbers in \(0, 1\], got nan"),
        (
            {"decay": torch.ones(4), "causal": True},
            TensorError,
            r"decay: expected what broadcasts to \[2, 3\], got \[4\]",
        ),
        ({"decay": torch.ones(3, requires_grad=True), "causal": True}, InputError, "decay: expected a constant"),
        ({"state": State(Q, Q[..., 0])}, TensorError, r"state.context: expected torch.float64 \[2, 3, 4, 4\], got"),
    ],
)
def test_senseless_input_is_refused(options, error, message):
    tensors = {name: options.pop(name, Q) for name in "qkv"}
    with pytest.raises(error, match=message):
        linear(**tensors, **options)


@pytest.mark.parametrize("causal", [False, True])
def test_exported_for_any_batch(causal):
    class Layer(torch.nn.Module):
        def forward(self, q, k, v):
            return linear(q, k, v, causal=causal)

    dynamic = [{0: torch.export.Dim("batch")}] * 3
    exported = torch.export.export(Layer(), tuple(three(2, 2, queries=70)), dynamic_shapes=dynamic).module()
    tensors = three(5, 2, queries=70)
    torch.testing.assert_close(exported(*tensors), linear(*tensors, causal=causal))
