"""Any function made smooth, known only by its values: its mean under noise has derivatives of every order.

Shapes: S draws, B: batch shape, D: entries of a point.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from visavis.blocks.surrogates._rows import check_positive
from visavis.errors import InputError, TensorError

__all__ = ["perturb"]


def perturb(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    temperature: float,
    samples: int = 100,
    noise: Literal["normal", "gumbel"] = "normal",
    generator: torch.Generator | None = None,
) -> Tensor:
    """``E f(x + temperature * Z)`` by Monte Carlo, with the gradient of that mean, from values of f alone.

    The gradient is the score function's with a leave-one-out baseline, as `visavis.blocks.estimators.RLOO`, here for
    functions with many outputs at once: ``E (f(x + T Z) - b) grad log p``. For normal noise that is
    ``E (f - b) Z^T / T``, once divided by T; its variance grows with ``1 / T^2``, and falls with `samples`. Derivatives
    of higher order are unbiased as well. What f itself depends on gets no gradient: f is a black box.

    For T -> 0 the value tends to f wherever f is continuous; with a Lipschitz constant L, by at most
    ``L * T * sqrt(D)`` for normal noise. Of a linear programme, argmax for one, under Gumbel noise it is the softmax:
    ``E onehot(argmax(x + T G)) = softmax(x / T)``.

    Args:
        f: takes points [S, *B, D], returns [S, *B, *]: anything that no gradient goes through. It may not mix draws.
        x: float [*B, D].
        temperature: T, positive, in units of x.
        samples: S, at least 2.
        noise: standard normal, or standard Gumbel.
        generator: of the noise; torch's own when None.

    Returns:
        [*B, *], the dtype f returns, at least float32.

    Raises:
        TensorError: `x` is not float [*B, D], or f returned no value for each point.
        InputError: `temperature`, `samples` or `noise` out of range.

    Source: Berthet et al., Learning with Differentiable Perturbed Optimizers, NeurIPS 2020, arXiv:2002.08676;
    Abernethy, Lee and Tewari, Perturbation Techniques in Online Learning and Optimization, 2016.

    >>> g = torch.Generator().manual_seed(0)
    >>> scores = torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
    >>> chosen = perturb(lambda s: s.argmax(-1, keepdim=True) == torch.arange(3), scores, temperature=0.1, generator=g)
    >>> chosen.detach()
    tensor([0., 1., 0.])
    """
    check_positive("temperature", temperature)
    if samples < 2:
        raise InputError(f"samples: expected at least 2, so that each draw has others, got {samples}")
    if noise not in ("normal", "gumbel"):
        raise InputError(f"noise: expected normal or gumbel, got {noise!r}")
    if not x.is_floating_point() or x.ndim == 0:
        raise TensorError(f"x: expected float [..., D], got {str(x.dtype).removeprefix('torch.')} {list(x.shape)}")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    unit = torch.empty(samples, *x.shape, dtype=wide.dtype, device=x.device)
    unit = (
        unit.normal_(generator=generator) if noise == "normal" else unit.exponential_(generator=generator).log_().neg_()
    )
    points = wide.detach() + temperature * unit
    with torch.no_grad():
        values = f(points.to(x.dtype))
    shape = points.shape[:-1]
    if values.shape[: len(shape)] != shape:
        raise TensorError(f"f: expected values {[*shape, '...']}, one or more for each point, got {list(values.shape)}")
    values = values.to(torch.promote_types(values.dtype, torch.float32) if values.is_floating_point() else wide.dtype)
    unit = (points - wide) / temperature  # as before, and now it moves with x
    log_density = (-unit.square() / 2 if noise == "normal" else -unit - (-unit).exp()).sum(-1)  # up to a constant
    weight = (log_density - log_density.detach()).exp()  # 1; Foerster et al., DiCE, ICML 2018
    weight = weight.reshape(*shape, *[1] * (values.ndim - len(shape))).to(values.dtype)
    others = (values.sum(0) - values) / (samples - 1)
    mean: Tensor = ((values - others) * weight + others).mean(0)
    return mean
