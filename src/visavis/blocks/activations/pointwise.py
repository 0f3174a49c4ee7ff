"""Activations of one number without parameters, right in both tails, each keeping one tensor for its backward pass.

Those of torch that are right already (ELU, SELU, CELU, SiLU, Mish, hard swish, ReLU and its straight kin) are torch's
own functions, which the family only names. As for the others: torch's sigmoid and tanh keep their output, which rounds
to 1 where the slope is still far from 0; its GELU subtracts its left tail to nothing; its softplus, cut off at 20, and
hard sigmoid, with a float32 slope, are not exact in float64; squared ReLU and quick GELU it lacks.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from visavis.blocks.activations._blocks import pointwise, refuse_integers
from visavis.blocks.activations._gelu import gelu_formula, gelu_with_slope

__all__ = [
    "gelu",
    "hard_sigmoid",
    "quick_gelu",
    "sigmoid",
    "softplus",
    "softsign",
    "squared_relu",
    "tanh",
    "tanh_gelu",
]


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``; its slope, ``s(x) s(-x)``, keeps its relative precision in both tails.

    Args:
        x: float of any shape.

    Raises:
        TensorError: `x` is not float.

    Source: the logistic function, Verhulst, 1838; in networks trained by gradients Rumelhart, Hinton and Williams,
    Nature 323, 1986.

    >>> sigmoid(torch.tensor([-1000.0, 0.0, 1000.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return pointwise(x, torch.sigmoid, lambda x: torch.sigmoid(x) * torch.sigmoid(-x))


def tanh(x: Tensor) -> Tensor:
    """``2 sigmoid(2 x) - 1``, with a slope, ``4 s(2 x) s(-2 x)``, that keeps its relative precision in both tails.

    Arguments and errors as `sigmoid`.

    Source: LeCun et al., Efficient BackProp, 1998, section 4.4, say why zero-centred activations train sooner.

    >>> tanh(torch.tensor([-100.0, 0.0, 100.0]))
    tensor([-1.,  0.,  1.])
    """
    return pointwise(x, torch.tanh, lambda x: 4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x))


def softsign(x: Tensor) -> Tensor:
    """``x / (1 + |x|)``: to -1 and 1 as tanh, but as slowly as 1/x. Arguments and errors as `sigmoid`.

    Source: Bergstra et al., Quadratic Polynomials Learn Better Image Features, 2009.

    >>> softsign(torch.tensor([-3.0, 0.0, 1.0]))
    tensor([-0.7500,  0.0000,  0.5000])
    """
    return pointwise(x, lambda x: x / (1 + x.abs()), lambda x: (1 + x.abs()).reciprocal().square())


def hard_sigmoid(x: Tensor) -> Tensor:
    """``clip(x / 6 + 1/2, 0, 1)``; torch's, but in float64. Arguments as `sigmoid`.

    Source: Courbariaux et al., BinaryConnect, arXiv:1511.00363; with 1/6 Howard et al., MobileNetV3, arXiv:1905.02244.

    >>> hard_sigmoid(torch.tensor([-3.0, 0.0, 1.5]))
    tensor([0.0000, 0.5000, 0.7500])
    """
    refuse_integers(x)
    if x.dtype != torch.float64:
        return functional.hardsigmoid(x)
    return pointwise(x, lambda x: (x / 6 + 0.5).clamp(0, 1), lambda x: (x.abs() < 3).to(x.dtype) / 6)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, in float64 ``max(0, x) + log1p(exp(-|x|))``, else torch's. Arguments as `sigmoid`.

    Source: Dugas et al., Incorporating Second-Order Functional Knowledge, NIPS 2000.

    >>> softplus(torch.tensor([-1000.0, 0.0, 1000.0]))
    tensor([0.0000e+00, 6.9315e-01, 1.0000e+03])
    """
    refuse_integers(x)
    if x.dtype != torch.float64:
        return functional.softplus(x)
    return pointwise(x, lambda x: x.relu() + torch.exp(-x.abs()).log1p(), torch.sigmoid)


def squared_relu(x: Tensor) -> Tensor:
    """``max(0, x)^2``. Arguments and errors as `sigmoid`.

    Source: So et al., Primer, arXiv:2109.08668.

    >>> squared_relu(torch.tensor([-3.0, 0.5, 2.0]))
    tensor([0.0000, 0.2500, 4.0000])
    """
    return pointwise(x, lambda x: x.relu().square(), lambda x: 2 * x.relu())


def gelu(x: Tensor) -> Tensor:
    """An input times the share of a standard normal below it: ``x / 2 * erfc(-x / sqrt 2)``.

    The usual ``1 + erf`` rounds to 0 left of -5.5 in float32, where the true value is still 1e-7; erfc does not.
    Arguments and errors as `sigmoid`.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, arXiv:1606.08415.

    >>> gelu(torch.tensor([-10.0, 0.0, 1.0]))
    tensor([-7.6199e-23,  0.0000e+00,  8.4134e-01])
    """
    return pointwise(x, gelu_formula, lambda x: gelu_with_slope(x)[1])


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU with tanh in erf's place: ``x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))``; within 5e-4 of `gelu`.

    As a sigmoid it keeps the left tail, where ``1 + tanh`` rounds to 0. Not quicker than `gelu` on a CPU; it is what
    GPT-2 and its heirs were trained with. Arguments and errors as `sigmoid`.

    Source: Hendrycks and Gimpel, arXiv:1606.08415, section 2.

    >>> tanh_gelu(torch.tensor([-3.0, 0.0, 1.0]))
    tensor([-0.0036,  0.0000,  0.8412])
    """
    outer, cubic = 2 * math.sqrt(2 / math.pi), 0.044715

    def slope(x: Tensor) -> Tensor:
        inner = outer * x * (1 + cubic * x.square())
        share = torch.sigmoid(inner)
        rise = outer * x * (1 + 3 * cubic * x.square())
        # Far out x^3 may be infinite where the sigmoid's slope is 0: its share counts as 0 there.
        return share + torch.nan_to_num(share * torch.sigmoid(-inner) * rise, posinf=0.0, neginf=0.0)

    return pointwise(x, lambda x: x * torch.sigmoid(outer * x * (1 + cubic * x.square())), slope)


def quick_gelu(x: Tensor) -> Tensor:
    """``x sigmoid(1.702 x)``: GELU to within 0.021. Arguments and errors as `sigmoid`.

    Source: Hendrycks and Gimpel, arXiv:1606.08415, section 2; CLIP's networks use it.

    >>> quick_gelu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1542,  0.0000,  0.8458])
    """

    def slope(x: Tensor) -> Tensor:
        share = torch.sigmoid(1.702 * x)
        return share + 1.702 * x * share * torch.sigmoid(-1.702 * x)

    return pointwise(x, lambda x: x * torch.sigmoid(1.702 * x), slope)
