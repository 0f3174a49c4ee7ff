"""Feature maps f, whose products f(q).f(k) are the weights of linear attention."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from visavis.blocks.attention._pieces import elu_features
from visavis.errors import InputError, expect

__all__ = ["Hedgehog", "RandomFeatures", "cosine_features", "elu_features"]


def cosine_features(x: Tensor) -> Tensor:
    """``[1, x / |x|]``, for weights ``1 + cos(q, k)``: the exponential to first order, of normalised vectors.

    Nowhere below zero as a product, though its features are; [..., D] becomes [..., 1 + D].

    >>> cosine_features(torch.tensor([3.0, 4.0]))
    tensor([1.0000, 0.6000, 0.8000])
    """
    return torch.cat([torch.ones_like(x[..., :1]), normalize(x, dim=-1)], -1)


class RandomFeatures(nn.Module):
    """Positive random features of the softmax kernel (FAVOR+): ``E[f(q).f(k)] = exp(q.k / sqrt(D))``.

    ``f(x) = exp(w.y - |y|^2 / 2) / sqrt(m)`` for ``y = x / D^(1/4)`` and m random directions w, drawn in orthogonal
    groups of D, each as long as a normal vector happens to be: that leaves every w normal, and lowers the variance.
    The variance grows with ``exp(|q + k|^2)``, so that long queries and keys want many features.

    The paper subtracts the largest exponent of all keys, which a state cannot know beforehand; here nothing is
    subtracted in `forward`, and `queries` subtracts each query's own largest, which the division takes out again:
    ``linear(q, k, v, feature_map=(features.queries, features))`` serves long queries.

    Source: Choromanski et al., Rethinking Attention with Performers, arXiv:2009.14794, lemma 1 and theorem 2.

    >>> features = RandomFeatures(4, 4096, generator=torch.Generator().manual_seed(0))
    >>> q, k = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, -1.0, 1.0, 0.0]])
    >>> abs((features(q) @ features(k)).log().item() - q @ k / 2) < 0.1
    tensor(True)
    """

    projection: Tensor

    def __init__(self, dim: int, features: int, *, generator: torch.Generator | None = None) -> None:
        """Draws the directions.

        Args:
            dim: D, of a query or key.
            features: m.
            generator: for the draw.

        Raises:
            InputError: a size that is not positive.
        """
        super().__init__()
        if dim < 1 or features < 1:
            raise InputError(f"dim, features: expected positive numbers, got {dim} and {features}")
        self.register_buffer("projection", torch.empty(features, dim))
        self.redraw(generator=generator)

    @torch.no_grad()
    def redraw(self, *, generator: torch.Generator | None = None) -> None:
        """New directions, as the paper takes now and then in a training. States of the old ones are worth nothing."""
        features, dim = self.projection.shape
        normal = torch.randn(-(-features // dim), dim, dim, generator=generator, dtype=torch.float64)
        directions, triangle = torch.linalg.qr(normal)
        directions = directions * triangle.diagonal(dim1=1, dim2=2).sign()[:, None]  # uniform, which Q alone is not
        lengths = torch.randn(features, dim, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
        self.projection.copy_(directions.mT.reshape(-1, dim)[:features] * lengths)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self._exponents(x).exp() / math.sqrt(len(self.projection))
        return features

    def queries(self, x: Tensor) -> Tensor:
        """Features of which the largest is 1, whatever the length of x."""
        exponents = self._exponents(x)
        return (exponents - exponents.detach().amax(-1, keepdim=True)).exp()

    def _exponents(self, x: Tensor) -> Tensor:
        expect("x", x, "float", *x.shape[:-1], self.projection.shape[1])
        y = x / x.shape[-1] ** 0.25
        exponents: Tensor = y @ self.projection.to(y.dtype).mT - y.square().sum(-1, keepdim=True) / 2
        return exponents


class Hedgehog(nn.Module):
    """Learned features ``[softmax(W x), softmax(-W x)]``, a matrix a head, made to imitate a softmax: see `distill`.

    W starts as the identity over D^(1/4), so that large products of q and k give large weights from the start.

    Source: Zhang et al., The Hedgehog and the Porcupine, arXiv:2402.04347, eq. 6 with the softmax of its section 4.2.
    """

    def __init__(self, heads: int, dim: int) -> None:
        """For [..., heads, L, dim] to [..., heads, L, 2 * dim].

        Raises:
            InputError: a size that is not positive.
        """
        super().__init__()
        if heads < 1 or dim < 1:
            raise InputError(f"heads, dim: expected positive numbers, got {heads} and {dim}")
        self.weight = nn.Parameter(torch.eye(dim).div(dim**0.25).repeat(heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        expect("x", x, "float", *x.shape[:-3], self.weight.shape[0], None, self.weight.shape[1])
        y = x @ self.weight.to(x.dtype).mT
        return torch.cat([y.softmax(-1), (-y).softmax(-1)], -1)
