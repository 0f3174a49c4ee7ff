"""The whole family against mpmath's formulas, in one battery; and the fact sheet against closed forms."""

import math

import mpmath
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from visavis.blocks import activations
from visavis.blocks.activations import ACTIVATIONS, properties
from visavis.errors import InputError, TensorError

mp = mpmath.mp.clone()
mp.dps = 40
mpf = mp.mpf

BY_NAME = {activation.name: activation for activation in ACTIVATIONS}
STEPS = ("threshold", "sign")


def phi(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def logistic(x):
    return 1 / (1 + mp.exp(-x))


def leaky(slope):
    return lambda x: x if x > 0 else slope * x


# Written anew from the papers; x is an mpmath number. Where the derivative jumps the points below keep away.
FORMULAS = {
    "threshold": lambda x: mpf(x > 0),
    "sign": mp.sign,
    "sigmoid": logistic,
    "hard_sigmoid": lambda x: min(max(x / 6 + mpf(1) / 2, 0), 1),
    "tanh": mp.tanh,
    "hard_tanh": lambda x: min(max(x, -1), 1),
    "softsign": lambda x: x / (1 + abs(x)),
    "relu": lambda x: max(x, mpf(0)),
    "relu6": lambda x: min(max(x, mpf(0)), mpf(6)),
    "leaky_relu": leaky(mpf("0.1")),
    "prelu": leaky(mpf("0.25")),
    "rrelu": leaky((mpf(1) / 8 + mpf(1) / 3) / 2),
    "maxout": lambda x: max(-x - 1, x / 4, x - 1),
    "elu": lambda x: x if x > 0 else mp.expm1(x),
    "selu": lambda x: mpf("1.0507009873554804934") * (x if x > 0 else mpf("1.6732632423543772848") * mp.expm1(x)),
    "celu": lambda x: x if x > 0 else mp.expm1(x),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "gelu": lambda x: x * phi(x),
    "tanh_gelu": lambda x: x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3))),
    "quick_gelu": lambda x: x * logistic(mpf("1.702") * x),
    "silu": lambda x: x * logistic(x),
    "swish": lambda x: x * logistic(2 * x),
    "hard_swish": lambda x: x * min(max(x / 6 + mpf(1) / 2, 0), 1),
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "squared_relu": lambda x: max(x, mpf(0)) ** 2,
    "snake": lambda x: x + mp.sin(x) ** 2,
    "xielu": lambda x: mpf("0.8") * x**2 + x / 2 if x > 0 else mpf("1.3") * (mp.expm1(x) - x) + x / 2,
    "glu": logistic,
    "bilinear": lambda x: x,
    "reglu": lambda x: max(x, mpf(0)),
    "geglu": lambda x: x * phi(x),
    "swiglu": lambda x: x * logistic(x),
}
TAILS = [
    -80.0,
    -40.0,
    -20.5,
    -13.0,
    -10.0,
    -5.5,
    -2.9,
    -0.9,
    -0.5,
    -1e-3,
    1e-3,
    0.5,
    0.9,
    2.9,
    5.5,
    10.0,
    19.0,
    21.0,
    80.0,
]


def test_every_activation_has_a_formula_here():
    assert FORMULAS.keys() == BY_NAME.keys()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_slope_in_both_tails(name, dtype):
    """Relative to the value, up to what rounding x and the constants costs: condition number times epsilon."""
    formula, info = FORMULAS[name], torch.finfo(dtype)
    x = torch.tensor(TAILS, dtype=dtype, requires_grad=True)
    y = BY_NAME[name].function(x)
    [slope] = torch.autograd.grad(y.sum(), x)
    assert y.dtype == slope.dtype == dtype
    working = max(torch.finfo(torch.float32).eps, info.eps) if dtype != torch.float64 else info.eps
    inner = info.eps if dtype == torch.float64 else torch.finfo(torch.float32).eps  # half is computed in float32
    for point, value, rise in zip(x.tolist(), y.tolist(), slope.tolist(), strict=True):
        true = formula(mpf(point))
        true_rise = mp.diff(formula, mpf(point))
        bend = mp.diff(formula, mpf(point), 2, h=mpf("1e-8"))
        floor = info.tiny * 4
        allowed = 4 * working * abs(true) + 6 * inner * abs(point * true_rise) + floor
        assert abs(value - true) <= allowed, (point, value, true)
        if name not in STEPS:
            allowed = 8 * working * abs(true_rise) + 8 * inner * abs(point * bend) + inner * abs(true) / 1e6 + floor
            assert abs(rise - true_rise) <= allowed, (point, rise, true_rise)


@pytest.mark.parametrize("name", [name for name in FORMULAS if name not in STEPS])
def test_gradients_first_and_second(name):
    x = torch.tensor(
        [-20.0, -4.1, -2.3, -0.6, 0.4, 2.3, 5.2, 20.0], dtype=torch.float64, requires_grad=True
    )  # no kinks
    function = BY_NAME[name].function
    assert torch.autograd.gradcheck(function, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x,), fast_mode=True)


OURS = {
    **{name: getattr(activations, name) for name in ("sigmoid", "tanh", "softsign", "squared_relu", "gelu")},
    **{name: getattr(activations, name) for name in ("tanh_gelu", "quick_gelu", "threshold", "sign")},
    **{name: getattr(activations, name) for name in ("hard_sigmoid", "softplus")},
    "xielu": lambda x: activations.xielu(x, torch.tensor([0.8]), torch.tensor([1.3])),
    "swish": lambda x: activations.swish(x, torch.tensor([2.0])),
    "snake": lambda x: activations.snake(x, torch.tensor([1.0])),
}
GATED = {name: getattr(activations, name) for name in ("glu", "bilinear", "reglu", "geglu", "swiglu")}


def kept(run):
    """The bytes that autograd keeps for the backward pass."""
    found = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: found.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) and t, lambda t: t
    ):
        run()
    return sum(found.values())


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("name", [name for name in FORMULAS if name not in GATED and name not in ("maxout", "rrelu")])
def test_keeps_one_tensor(name):
    x = drawn(100, 100).requires_grad_()
    assert kept(lambda: BY_NAME[name].function(x)) <= x.nbytes + 16


@pytest.mark.parametrize("name", GATED)
def test_gated_keep_two(name):
    gate, value = drawn(100, 100).requires_grad_(), drawn(100, 100, seed=1).requires_grad_()
    assert kept(lambda: GATED[name](gate, value)) == 2 * gate.nbytes


def test_rrelu_keeps_its_slopes_and_maxout_its_choice():
    x = drawn(100, 100).requires_grad_()
    assert kept(lambda: activations.rrelu(x)) == x.nbytes
    assert kept(lambda: activations.maxout(x, 4)) == x.nbytes // 4 * 2  # int64


# Larger than a block, so that the loop over blocks is what is tested; of several layouts.
LAYOUTS = {
    "contiguous": lambda seed: drawn(300_007, seed=seed),
    "channels last": lambda seed: drawn(2, 12, 128, 128, seed=seed).to(memory_format=torch.channels_last),
    "half of a packed tensor": lambda seed: drawn(3, 1000, 2 * 150, seed=seed).chunk(2, -1)[0],
    "transposed": lambda seed: drawn(500, 700, seed=seed).T,
    "rows longer than a block": lambda seed: drawn(2, 300_000, seed=seed).chunk(2, -1)[1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*OURS, *GATED])
def test_blocks_are_the_same_numbers(one_thread, name, layout):  # noqa: ARG001
    function = OURS.get(name) or GATED[name]
    leaves = [LAYOUTS[layout](seed).detach().requires_grad_() for seed in range(1 if name in OURS else 2)]
    y = function(*leaves)
    weights = torch.empty_like(y).copy_(LAYOUTS[layout](9))
    grads = torch.autograd.grad(y, leaves, weights)
    some = slice(0, None, 37)
    small = [leaf.detach().flatten()[some].clone().requires_grad_() for leaf in leaves]
    expected = function(*small)
    torch.testing.assert_close(y.flatten()[some], expected)
    for grad, one in zip(grads, torch.autograd.grad(expected, small, weights.flatten()[some]), strict=True):
        torch.testing.assert_close(grad.flatten()[some], one)
    if layout == "channels last":
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", [*OURS, *GATED])
def test_empty_vmap_nan_and_integers(name):
    function = OURS.get(name) or GATED[name]
    count = 1 if name in OURS else 2
    assert function(*[torch.empty(0, 3)] * count).shape == (0, 3)
    x = [drawn(4, 3, seed=seed) for seed in range(count)]
    each = torch.stack([function(*row) for row in zip(*x, strict=True)])
    torch.testing.assert_close(torch.vmap(function)(*x), each)
    slopes = torch.func.vmap(torch.func.grad(lambda *row: function(*row).sum()))(*x)
    leaf = x[0].clone().requires_grad_()
    torch.testing.assert_close(slopes, torch.autograd.grad(function(leaf, *x[1:]).sum(), leaf)[0])
    assert function(*[torch.full((2,), math.nan)] * count).isnan().all()
    with pytest.raises(TensorError, match="expected float"):
        function(*[torch.zeros(3, dtype=torch.int64)] * count)


@pytest.mark.parametrize("surrogate", ["clipped", "triangle", "sigmoid", "arctan", "fast_sigmoid"])
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_a_surrogates_area_is_the_steps_height(surrogate, width):
    for function, height in ((activations.threshold, 1.0), (activations.sign, 2.0)):
        u = torch.linspace(-math.pi / 2, math.pi / 2, 2_000_003, dtype=torch.float64)[1:-1]  # x = tan u reaches far out
        x = u.tan().requires_grad_()
        [slope] = torch.autograd.grad(function(x, surrogate=surrogate, width=width).sum(), x)
        area = torch.trapezoid(slope * (1 + x.detach().square()), u)
        assert area.item() == pytest.approx(height, abs=1e-4)


def test_straight_through_is_one_everywhere():
    x = torch.tensor([-1e6, 0.0, 3.0], requires_grad=True)
    for function in (activations.threshold, activations.sign):
        [slope] = torch.autograd.grad(function(x, surrogate="straight_through").sum(), x)
        assert slope.tolist() == [1.0, 1.0, 1.0]


PARAMETERS = {"swish": 1, "snake": 1, "xielu": 2}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PARAMETERS)
def test_gradients_of_parameters(name, channels):
    function = getattr(activations, name)
    x = drawn(4, 3, 2, dtype=torch.float64).requires_grad_()
    alphas = [
        (drawn(channels, seed=seed + 1, dtype=torch.float64).abs() + 0.5).requires_grad_()
        for seed in range(PARAMETERS[name])
    ]
    assert torch.autograd.gradcheck(function, (x, *alphas))
    assert torch.autograd.gradgradcheck(function, (x, *alphas))
    with pytest.raises(TensorError, match=r"(alpha|beta)(_p)?: expected float \[1\] or \[3\], one number a channel"):
        function(x, *(alpha.new_ones(2) for alpha in alphas))


def test_parameters_sum_over_blocks(one_thread):  # noqa: ARG001
    x, alpha = drawn(1000, 400), torch.tensor([0.7], requires_grad=True)
    [grad] = torch.autograd.grad(activations.swish(x, alpha).sum(), alpha)
    wide = alpha.detach().double().requires_grad_()
    [expected] = torch.autograd.grad((x.double() * torch.sigmoid(wide * x.double())).sum(), wide)
    assert grad.item() == pytest.approx(expected.item(), rel=1e-4)


def test_limits_of_the_parameters():
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    torch.testing.assert_close(activations.snake(x, torch.zeros(1, dtype=torch.float64)), x)
    torch.testing.assert_close(activations.swish(x, torch.zeros(1, dtype=torch.float64)), x / 2)
    torch.testing.assert_close(activations.swish(x, torch.full((1,), 1e4, dtype=torch.float64)), x.relu())
    alpha = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    [grad] = torch.autograd.grad(activations.snake(x, alpha).sum(), alpha)
    assert grad.item() == pytest.approx(x.square().sum().item())  # d/da sin(a x)^2 / a at 0


def test_modules_start_where_the_papers_do():
    x = drawn(4, 3)
    torch.testing.assert_close(activations.Swish()(x), torch.nn.functional.silu(x))
    torch.testing.assert_close(activations.Snake(3)(x), x + x.sin().square())
    left, right = 1.3 * (x.clamp_max(0).expm1() - x.clamp_max(0)), 0.8 * x.relu().square()
    torch.testing.assert_close(activations.XIELU()(x), left + right + 0.5 * x)
    torch.manual_seed(0)
    layer = activations.Maxout(3, 5, pieces=4)
    torch.testing.assert_close(layer(x), layer.linear(x).view(4, 5, 4).amax(-1))
    for module in (activations.Swish(), activations.Snake(3), activations.XIELU(), layer):
        module(x).sum().backward()
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_rrelu_draws_evenly_and_by_its_generator():
    x = -torch.ones(100_000)
    y = activations.rrelu(x, generator=torch.Generator().manual_seed(1))
    assert torch.equal(y, activations.rrelu(x, generator=torch.Generator().manual_seed(1)))
    assert ((y >= -1 / 3) & (y <= -1 / 8)).all()
    # Standard error of the mean: the range, .2083, over sqrt(12 n); 5 of them.
    assert y.mean().item() == pytest.approx(-(1 / 8 + 1 / 3) / 2, abs=5 * (5 / 24) / math.sqrt(12 * len(x)))
    module = activations.RReLU(0.1, 0.3).eval()
    torch.testing.assert_close(module(x), x * 0.2)
    assert torch.equal(activations.rrelu(-x), -x)
    with pytest.raises(InputError, match="lower, upper: expected 0 <= lower <= upper, got 0.5 and 0.1"):
        activations.rrelu(x, lower=0.5, upper=0.1)


def test_maxout_along_any_dimension():
    x = drawn(2, 6, 5)
    expected = torch.stack([x[:, 0:3].amax(1), x[:, 3:6].amax(1)], 1)
    assert torch.equal(activations.maxout(x, 3, dim=1), expected)
    assert torch.equal(activations.maxout(x, 3, dim=-2), expected)
    with pytest.raises(TensorError, match=r"x: expected a multiple of 4 along dim -1, got \[2, 6, 5\]"):
        activations.maxout(x, 4)
    with pytest.raises(InputError, match="pieces: expected a positive number, got 0"):
        activations.maxout(x, 0)


@pytest.mark.parametrize("module", ["GLU", "Bilinear", "ReGLU", "GEGLU", "SwiGLU"])
def test_gated_layers_keep_the_variance(module):
    torch.manual_seed(0)
    layer = getattr(activations, module)(256)
    x = torch.randn(4000, 256)
    gate, value = (x @ layer.up.weight.T).chunk(2, 1)
    expected = GATED[module.lower()](gate, value) @ layer.down.weight.T
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    assert 0.9 < layer(x).std() < 1.1


@pytest.mark.parametrize("name", ["threshold", "sign"])
def test_what_is_no_surrogate_is_refused(name):
    function = getattr(activations, name)
    with pytest.raises(InputError, match="surrogate: expected one of straight_through, clipped, triangle, sigmoid"):
        function(torch.zeros(1), surrogate="none")
    for width in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="width: expected a positive number, got"):
            function(torch.zeros(1), width=width)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # out of torch's own compiler
@pytest.mark.parametrize("name", ["gelu", "threshold", "swiglu", "xielu"])
def test_compiles(name):
    torch.compiler.reset()
    function = OURS.get(name) or GATED[name]
    leaves = [drawn(64, 32, seed=seed).requires_grad_() for seed in range(1 if name in OURS else 2)]
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    y = compiled(*leaves)
    torch.testing.assert_close(y, function(*leaves))
    for mine, plain in zip(
        torch.autograd.grad(y.sum(), leaves), torch.autograd.grad(function(*leaves).sum(), leaves), strict=True
    ):
        torch.testing.assert_close(mine, plain)


# The fact sheet. Closed forms, or scipy's minimiser on the formula above.


def least(name, low, high):
    found = minimize_scalar(lambda x: float(FORMULAS[name](mpf(x))), bounds=(low, high), options={"xatol": 1e-10})
    return found.fun


def steepest(name, low, high):
    found = minimize_scalar(
        lambda x: -abs(float(mp.diff(FORMULAS[name], mpf(x)))), bounds=(low, high), options={"xatol": 1e-10}
    )
    return -found.fun


FOUND = {name: properties(activation.function) for name, activation in BY_NAME.items()}
INF = math.inf
SELU_LOW = 1.0507009873554805 * 1.6732632423543772
SILU_LOW = lambertw(math.exp(-1)).real
RANGES = {
    "threshold": (0, 1), "sign": (-1, 1), "sigmoid": (0, 1), "tanh": (-1, 1), "hard_tanh": (-1, 1),
    "hard_sigmoid": (0, 1), "softsign": (-1, 1), "relu": (0, INF), "relu6": (0, 6), "elu": (-1, INF),
    "celu": (-1, INF), "softplus": (0, INF), "selu": (-SELU_LOW, INF), "snake": (-INF, INF),
    "hard_swish": (-3 / 8, INF), "silu": (-SILU_LOW, INF), "swish": (-SILU_LOW / 2, INF),
    "quick_gelu": (-SILU_LOW / 1.702, INF), "gelu": (least("gelu", -2, 0), INF), "prelu": (-INF, INF),
    "tanh_gelu": (least("tanh_gelu", -2, 0), INF), "mish": (least("mish", -3, 0), INF), "leaky_relu": (-INF, INF),
    "squared_relu": (0, INF), "xielu": (least("xielu", -3, 0), INF), "maxout": (-0.2, INF),
}  # fmt: skip
LIPSCHITZ = {
    "threshold": INF, "sign": INF, "sigmoid": 1 / 4, "tanh": 1, "hard_sigmoid": 1 / 6, "softsign": 1, "relu": 1,
    "elu": 1, "selu": SELU_LOW, "softplus": 1, "squared_relu": INF, "xielu": INF, "snake": 2, "hard_swish": 1.5,
    "gelu": float(phi(mp.sqrt(2)) + mp.exp(-1) / mp.sqrt(mp.pi)), "silu": steepest("silu", 1, 4), "leaky_relu": 1,
    "quick_gelu": steepest("silu", 1, 4), "mish": steepest("mish", 0.5, 4), "maxout": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name):
    assert (FOUND[name].low, FOUND[name].high) == pytest.approx(RANGES[name], abs=1e-7)


@pytest.mark.parametrize("name", LIPSCHITZ)
def test_lipschitz_constants(name):
    assert FOUND[name].lipschitz == pytest.approx(LIPSCHITZ[name], abs=1e-6)


def test_zeros():
    half_lines = {"threshold": 0, "relu": 0, "relu6": 0, "squared_relu": 0, "reglu": 0, "hard_sigmoid": -3}
    for name, end in half_lines.items():
        assert FOUND[name].zeros == ((-INF, end),), name
    for name in ("sigmoid", "softplus", "glu"):
        assert FOUND[name].zeros == (), name
    assert FOUND["hard_swish"].zeros == ((-INF, -3.0), (0.0, 0.0))
    for name in ("sign", "tanh", "gelu", "silu", "mish", "elu", "snake", "bilinear"):
        assert FOUND[name].zeros == ((0.0, 0.0),), name


def test_slopes_limits_and_monotony():
    assert FOUND["relu"].slopes_at_zero == (0.0, 1.0)
    assert FOUND["threshold"].slopes_at_zero == (INF, INF)
    assert FOUND["gelu"].slopes_at_zero == pytest.approx((0.5, 0.5))
    assert FOUND["mish"].slopes_at_zero == pytest.approx((0.6, 0.6))
    assert FOUND["selu"].slopes_at_zero[0] == pytest.approx(SELU_LOW)
    assert [FOUND[name].saturates for name in ("tanh", "elu", "snake", "softsign")] == [
        "both",
        "left",
        "neither",
        "both",
    ]
    rising = {name for name, found in FOUND.items() if found.monotone}
    falling_somewhere = {"maxout", "gelu", "tanh_gelu", "quick_gelu", "silu", "swish", "hard_swish", "mish", "xielu"}
    assert FOUND.keys() - rising == falling_somewhere | {"geglu", "swiglu"}


def test_a_function_without_limits_has_none():
    found = properties(torch.sin)
    assert math.isnan(found.left)
    assert math.isnan(found.right)
    assert found.saturates == "neither"
    assert (found.low, found.high, found.lipschitz) == pytest.approx((-1, 1, 1))


def test_the_gallery_draws_every_one():
    figure = activations.draw(span=2.0)
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    assert titles == [activation.name for activation in ACTIVATIONS]
    lines = figure.axes[titles.index("relu")].get_lines()
    torch.testing.assert_close(torch.tensor(lines[3].get_ydata()), torch.linspace(-2, 2, 801).relu())
