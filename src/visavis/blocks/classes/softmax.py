"""`ClassSoftmax`: the last layer and the loss of a network that tells very many classes apart.

N: samples of one rank, P: samples of all ranks, C: classes, D: features.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import softplus

from visavis.blocks.classes import checkpoint
from visavis.blocks.classes.passes import OtherClasses, Task
from visavis.blocks.classes.ranks import Gather, Ranks, Samples
from visavis.blocks.margins.margin import Margin
from visavis.errors import InputError, VisavisError, expect

__all__ = ["ClassSoftmax"]

_INITIAL_STD = 0.01  # of the published recipes; only a row's direction counts, but a step turns a short one further
_DRAWN_AT_ONCE = 4096  # classes whose first values come from one seed


class ClassSoftmax(nn.Module):
    """Cross-entropy over C classes with a margin: class centres and loss in one, for C up to millions.

    The same loss and the same gradients as `margins.Margin.forward` on all cosines and `cross_entropy` behind it, but
    the [N, C] matrix exists once instead of some four times, no normalised copy of the weight is made, and time is that
    of the three matrix products which the definition asks for. First derivatives only.

    Under torch.distributed (torchrun) every rank holds ``C / ranks`` of the classes and sees everyone's samples; the
    loss is the mean over the samples of all ranks, the same on each, and they may bring different numbers of samples.
    Features get the gradient that `DistributedDataParallel` expects: R times that of the loss, on R ranks, of which it
    takes the mean. So wrap the network in it, and not this head: its rows are different classes on every rank.

    Args:
        features: D, the length of a feature vector.
        classes: C, at least 2.
        margin: what to ask of the true class; None for a softmax of cosines (NormFace), or of inner products.
        scale: gain on every logit. None: 64; or 1 where the features' length takes part, which are margins that
            `scales_with_norm`, and inner products.
        normalize: False, without a margin only: inner products instead of cosines, the plain softmax without a bias.
        sample_rate: in (0, 1]: this share of the classes that no sample of the batch has, drawn anew at each training
            step, stands for all of them; classes that one has always take part. Then the weight's gradient is sparse.
        subcenters: rows for each class, of which the nearest to a sample counts. More than 1 forgives noisy labels.
        label_smoothing: in [0, 1), as in `cross_entropy`, over all classes.
        ignore_index: samples with this label count for nothing; a batch of nothing else has loss 0.
        group: the ranks that share the classes; None: all of the job, if there is one.

    Shape of `weight`: ``[C / ranks * subcenters, D]``, the sub-centres of a class one below the other.

    Where sampling differs from the paper: a class drawn with probability q counts as ``1 / q`` classes, so that sums
    over classes are right on average and the rate does not change what is optimised. In Partial FC it counts as one.

    Raises:
        InputError: an option out of range, or options that exclude one another.

    Source: Wang et al., NormFace, ACM MM 2017, arXiv:1704.06369; An et al., Partial FC, CVPR 2022, arXiv:2203.15565;
        Deng et al., Sub-center ArcFace, ECCV 2020. Passes, folding and stability: `visavis.blocks.classes.passes`.

    >>> from visavis.blocks.margins import ArcFace
    >>> head = ClassSoftmax(8, 1000, margin=ArcFace(0.5), scale=64.0)
    >>> loss = head(torch.randn(4, 8, requires_grad=True), torch.tensor([0, 5, 5, 999]))
    >>> loss.backward()
    >>> head.weight.grad.shape
    torch.Size([1000, 8])
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        margin: Margin | None = None,
        scale: float | None = None,
        normalize: bool = True,
        sample_rate: float = 1.0,
        subcenters: int = 1,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        group: "dist.ProcessGroup | None" = None,
    ) -> None:
        super().__init__()
        self.ranks = Ranks.here(group)
        if features < 1:
            raise InputError(f"features: expected at least 1, got {features}")
        if classes < 2:
            raise InputError(f"classes: expected at least 2, got {classes}; one class leaves nothing to learn")
        if classes < self.ranks.world:
            raise InputError(f"classes: expected one a rank or more, got {classes} for {self.ranks.world} ranks")
        if not 0.0 < sample_rate <= 1.0:
            raise InputError(f"sample_rate: expected a share in (0, 1], got {sample_rate}")
        if subcenters < 1:
            raise InputError(f"subcenters: expected at least 1, got {subcenters}")
        if not 0.0 <= label_smoothing < 1.0:
            raise InputError(f"label_smoothing: expected a share in [0, 1), got {label_smoothing}")
        if margin is not None and not normalize:
            raise InputError("normalize: expected True with a margin, got False; a margin says what it normalises")
        cosines = normalize and (margin is None or margin.normalizes_classes)
        if subcenters > 1 and not cosines:
            raise InputError(f"subcenters: expected 1 where classes keep their length, got {subcenters}")
        if margin is not None and margin.changes_others and not cosines:
            raise InputError("margin: expected one that changes other classes to normalise them, got one that does not")
        by_norm = not normalize or (margin is not None and margin.scales_with_norm)
        scale = (1.0 if by_norm else 64.0) if scale is None else float(scale)
        if not 0.0 < scale < math.inf:
            raise InputError(f"scale: expected a positive gain, got {scale}")

        self.features, self.classes, self.subcenters = features, classes, subcenters
        self.margin, self.scale, self.sample_rate = margin, scale, sample_rate
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        self._cosines, self._by_norm = cosines, by_norm
        self.first = self.ranks.first(classes)
        held = self.ranks.first(classes, self.ranks.rank + 1) - self.first
        self.weight = nn.Parameter(torch.empty(held * subcenters, features))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weight from torch's generator: the same classes, whatever the number of ranks that share them."""
        seed = int(torch.randint(2**48, ()))
        generator = torch.Generator(device=self.weight.device)
        rows = self.weight.view(-1, self.subcenters, self.features)
        last = self.first + len(rows)
        for start in range(self.first // _DRAWN_AT_ONCE * _DRAWN_AT_ONCE, last, _DRAWN_AT_ONCE):
            generator.manual_seed(seed + start)
            drawn = rows.new_empty(min(_DRAWN_AT_ONCE, self.classes - start), self.subcenters, self.features)
            drawn.normal_(std=_INITIAL_STD, generator=generator)
            low, high = max(start, self.first), min(start + len(drawn), last)
            rows[low - self.first : high - self.first] = drawn[low - start : high - start]

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over the samples of all ranks.

        Works in float32 whatever autocast says, and in float64 if the weight is float64. In training mode the margin's
        statistics move and classes are sampled; in evaluation mode all classes take part.

        Args:
            features: [N, D] float; not normalised. A vector of zeros has cosine 0 to all classes.
            labels: [N] int64 in [0, C), or `ignore_index`.

        Returns:
            A float32 (float64) scalar.

        Raises:
            TensorError: wrong shape or dtype.
            InputError: no samples, a label out of range, or features that are not finite.
            RankError: another rank is gone, or refused its batch.
        """
        with torch.autocast(features.device.type, enabled=False):
            try:
                directions, norms, labels = self._admit(features, labels)
            except VisavisError:
                self.ranks.sizes(0, self.weight.device, refused=True)
                raise
            sizes = self.ranks.sizes(len(labels), features.device)
            if sum(sizes) == 0:
                return features[:0].sum(dtype=norms.dtype)
            samples = Samples(directions, norms, labels)
            if self.ranks.world > 1:
                samples = Samples(*Gather.apply(directions, norms, labels, sizes, self.ranks))  # type: ignore[no-untyped-call]
            return self._loss(samples)

    def full_state(self, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
        """Everything to go on with, of all ranks together: every rank calls it, rank 0 gets it, the others get {}.

        Args:
            optimizer: one that moves `weight`; what it keeps row by row is collected, too.

        Returns:
            Tensors on the CPU, for `torch.save`: the weight [C * subcenters, D], the margin's buffers, the optimizer's
            rows. Options of the optimizer, such as its learning rate, are not among them.

        Raises:
            InputError: the optimizer does not hold the weight, or keeps sparse rows.
            RankError: another rank is gone.
        """
        return checkpoint.collect(self, optimizer)

    def load_full_state(self, state: dict[str, Any], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Take this rank's part of what `full_state` returned on any number of ranks; every rank brings all of it.

        ``torch.load(path, mmap=True)`` reads only the part that is taken.

        Raises:
            InputError: the state is of another shape, or lacks the optimizer's rows or the margin's buffers. Nothing
                has been changed then.
        """
        checkpoint.distribute(self, state, optimizer)

    def get_extra_state(self) -> Tensor:
        """Which classes a plain `state_dict` holds: all of them, or one rank's."""
        return torch.tensor([self.first, self.first + len(self.weight) // self.subcenters, self.classes])

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the plain `state_dict` of another rank.

        Raises:
            InputError: it is one.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            theirs, ours = ("{} to {} of {}".format(*part.tolist()) for part in (state, self.get_extra_state()))
            raise InputError(f"state: expected classes {ours}, got {theirs}; `full_state` is for any number of ranks")

    def extra_repr(self) -> str:
        """What print shows."""
        return (
            f"{self.features}, {self.classes}, scale={self.scale:g}, normalize={self._cosines}, "
            f"sample_rate={self.sample_rate:g}, subcenters={self.subcenters}, "
            f"rank {self.ranks.rank} of {self.ranks.world}"
        )

    def _admit(self, features: Tensor, labels: Tensor) -> Samples:
        """The samples that count, with one look at their values."""
        expect("features", features, "float", None, self.features)
        expect("labels", labels, "int64", len(features))
        if not len(features) and self.ranks.world == 1:
            raise InputError("features: expected at least one sample, got none")
        counts = labels != self.ignore_index
        wrong = counts & ((labels < 0) | (labels >= self.classes))
        vectors = features.to(torch.float64 if self.weight.dtype == torch.float64 else torch.float32)
        lengths = torch.linalg.vector_norm(vectors.detach(), dim=1)
        lost = counts & ~lengths.isfinite()
        # One transfer from the device for all three.
        any_wrong, any_lost, all_count = torch.stack([wrong.any(), lost.any(), counts.all()]).tolist()
        if any_wrong:
            at = int(wrong.nonzero()[0])
            raise InputError(f"labels: expected classes in [0, {self.classes}), got {int(labels[at])} at sample {at}")
        if any_lost:
            at = int(lost.nonzero()[0])
            raise InputError(f"features: expected finite vectors, got length {lengths[at].item()} at sample {at}")
        if not all_count:
            vectors, labels = vectors[counts], labels[counts]
        norms = torch.linalg.vector_norm(vectors, dim=1)
        # Divided by 1, a vector of zeros has a finite gradient.
        return Samples(vectors / torch.where(norms > 0, norms, 1.0)[:, None], norms, labels)

    def _loss(self, samples: Samples) -> Tensor:
        directions, norms, labels = samples
        gains = norms * self.scale if self._by_norm else torch.full_like(norms, self.scale)
        margin, training = self.margin, self.training

        def observe(cosines: Tensor) -> None:
            if margin is not None and training:
                margin.observe(cosines, norms.detach())

        chosen, log_weights = self._sample(labels) if training and self.sample_rate < 1.0 else (None, None)
        changes = margin is not None and margin.changes_others
        reach = -math.log(torch.finfo(norms.dtype).tiny) - 8.0  # e^8 to spare on both sides
        task = Task(
            labels=labels,
            first=self.first,
            subcenters=self.subcenters,
            normalize=self._cosines,
            bounded=not (self._by_norm or changes) and self.scale + math.log(self.classes) < reach,
            others=margin.others if margin is not None and changes else None,
            observe=observe,
            chosen=chosen,
            log_weights=None if log_weights is None else log_weights.to(norms.dtype),
            smoothing=self.label_smoothing > 0.0,
            keep=torch.is_grad_enabled() and (directions.requires_grad or self.weight.requires_grad),
            ranks=self.ranks,
        )
        cosines, lengths, others, smooth = OtherClasses.apply(directions, gains, self.weight, task)  # type: ignore[no-untyped-call]
        true = cosines if margin is None else margin.target(cosines, norms)
        true = gains * true if self._cosines else gains * true * lengths
        # -log p of the true class is log(1 + e^(others - true)), which keeps all digits where p is nearly 1.
        losses = softplus(others - true, threshold=64.0)
        if self.label_smoothing:
            losses = losses + self.label_smoothing * (true - (true + smooth) / self.classes)
        penalty = None if margin is None else margin.penalty(norms)
        return (losses if penalty is None else losses + penalty).mean()

    def _sample(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The classes of this rank for one step, ascending from 0, and the log of how many each stands for."""
        held = len(self.weight) // self.subcenters
        positive = torch.zeros(held, dtype=torch.bool, device=labels.device)
        own = labels - self.first
        positive[own[(own >= 0) & (own < held)]] = True
        positives = int(positive.sum())
        wanted = math.ceil(self.sample_rate * (held - positives))
        drawn = torch.randperm(held, device=labels.device)[: positives + wanted]  # holds at least `wanted` others
        drawn = drawn[~positive[drawn]][:wanted]
        taken = positive.clone()
        taken[drawn] = True
        chosen = taken.nonzero().flatten()
        log_weights = torch.zeros(len(chosen), dtype=torch.float64, device=labels.device)
        if wanted:
            log_weights[~positive[chosen]] = math.log((held - positives) / wanted)
        return chosen, log_weights
