"""People drawn, not photographed: each a pattern of coloured patches, under light that differs between photos."""

import numpy as np
import torch
from torch import nn

from visavis.face.train.data import Crops


def people(count, photos, *, seed=0, size=32, border=2):
    """Crops of `count` people with `photos` each, in memory."""
    random = np.random.default_rng(seed)
    side = size + 2 * border
    who = random.uniform(0, 1, (count, 1, 4, 4, 3)).repeat(photos, 1).reshape(-1, 4, 4, 3)
    patches = who.repeat(side // 4 + 1, 1).repeat(side // 4 + 1, 2)[:, :side, :side]
    shift = random.integers(-2, 3, (len(who), 2))
    patches = np.stack([np.roll(patch, xy, (0, 1)) for patch, xy in zip(patches, shift, strict=True)])
    light = random.uniform(0.15, 1.0, (len(who), 1, 1, 3))
    pixels = 255 * np.clip(patches * light + random.uniform(0, 0.4, (len(who), 1, 1, 3)), 0, 1)
    return Crops.from_images(pixels.astype(np.uint8), np.repeat(np.arange(count), photos), border=border)


def network(*, dim=16, size=32, seed=0):
    """A backbone of two layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 12, 5, 4, 2, bias=False),
        nn.BatchNorm2d(12),
        nn.PReLU(12),
        nn.Conv2d(12, 24, 3, 2, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.PReLU(24),
        nn.Flatten(),
        nn.Linear(24 * (size // 8) ** 2, dim, bias=False),
        nn.BatchNorm1d(dim),
    )
