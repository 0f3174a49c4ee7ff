"""What a margin-softmax is made of: `Margin`, the base class of all margins of this folder.

N: samples, C: classes.
"""

import torch
from torch import Tensor, nn

from visavis.blocks.margins._curves import check_scale, pick, put
from visavis.errors import TensorError, expect

__all__ = ["Margin"]


class Margin(nn.Module):
    """How a margin-softmax changes the cosines: the true class's always, the others' for some.

    A margin is pointwise: it never sees the [N, C] matrix as a whole. So the dense form here and
    `classes.ClassSoftmax`, which never holds that matrix, share one `target` and one `others`.
    """

    scales_with_norm = False  # True: a logit is scale * |x| * ..., and the paper's scale is 1
    normalizes_classes = True  # False: a logit is scale * |w| |x| * ..., and the |w| its caller's to multiply
    changes_others = False
    uses_norms = False  # True: `target` or `penalty` reads the norms

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002  (most margins do not read the norms)
        """The true classes' share: [N] their cosines and [N] feature lengths to [N], in units of a cosine.

        Differentiable in both. The N samples are those that `observe` has just seen, in that order.
        """
        return cosines

    def others(self, cosines: Tensor, target: Tensor) -> Tensor:  # noqa: ARG002  (most margins leave them as they are)
        """The other classes' share: [..., N] their cosines, [N] the raw true-class cosines, to [..., N].

        Elementwise, and differentiable in both. Entries of the true class may be among them; their result is not used.
        """
        return cosines

    def penalty(self, norms: Tensor) -> Tensor | None:  # noqa: ARG002  (only MagFace has one)
        """What is added to each sample's loss, [N] feature lengths to [N], or nothing."""
        return None

    def observe(self, cosines: Tensor, norms: Tensor) -> None:
        """Called once a training step, before `target`: [N] detached cosines and norms of all samples of the batch.

        Running statistics and the next random draw belong here, in buffers, so that a checkpoint holds them. Give a
        buffer a new tensor, do not change the old: torch.compile may take it up again in the backward pass.
        """

    def forward(self, cosines: Tensor, labels: Tensor, norms: Tensor | None = None, *, scale: float) -> Tensor:
        """The logits of a dense softmax over C classes, the same code for every margin.

        Args:
            cosines: [N, C] float in [-1, 1], sample n against class centre c.
            labels: [N] int64 in [0, C).
            norms: [N] float, the features' lengths before they were normalised; needed where `uses_norms`.
            scale: positive gain on every logit; 1 where `scales_with_norm`, if one follows the paper.

        Returns:
            [N, C], dtype and device of `cosines`. Add `penalty` to the loss where a margin has one.

        Raises:
            TensorError: a shape or dtype is wrong, or norms are missing that this margin reads.
            InputError: a label outside [0, C), or a scale that is not positive.
        """
        check_scale(scale)
        raw = pick(cosines, labels)
        if norms is not None:
            expect("norms", norms, "float", len(cosines))
            norms = norms.to(raw.dtype)
        elif self.uses_norms or self.scales_with_norm:
            raise TensorError(f"norms: expected float [{len(cosines)}], got None; {type(self).__name__} reads them")
        else:
            norms = torch.ones_like(raw)
        if self.training:
            self.observe(raw.detach(), norms.detach())
        logits = self.others(cosines.T, raw.to(cosines.dtype)).T if self.changes_others else cosines
        logits = put(logits, labels, self.target(raw, norms))
        return scale * (logits * norms.to(logits.dtype)[:, None] if self.scales_with_norm else logits)
