"""More pixels from fewer: resizing, pixel shuffle, transposed convolution, unpooling, content-aware upsampling.

Images are [N, C, H, W]. One convention of alignment throughout, half-pixel; `conventions` has the other and the way
between.
"""

from visavis.blocks.upsampling.checkerboard import (
    Checkerboard,
    Start,
    Suggestion,
    checkerboard,
    overlap,
    phase_sums,
    suggest,
)
from visavis.blocks.upsampling.content import Carafe, DySample, dysample, reassemble
from visavis.blocks.upsampling.conventions import corner_box, from_grid, regrid, to_grid, to_input, to_output
from visavis.blocks.upsampling.interpolation import Mode, Resize, resize
from visavis.blocks.upsampling.shuffle import SubPixel2d, icnr_, pixel_shuffle, pixel_unshuffle
from visavis.blocks.upsampling.transposed import PatchTranspose2d, bilinear_, patch_transpose2d
from visavis.blocks.upsampling.unpooling import max_unpool2d

__all__ = [
    "Carafe",
    "Checkerboard",
    "DySample",
    "Mode",
    "PatchTranspose2d",
    "Resize",
    "Start",
    "SubPixel2d",
    "Suggestion",
    "bilinear_",
    "checkerboard",
    "corner_box",
    "dysample",
    "from_grid",
    "icnr_",
    "max_unpool2d",
    "overlap",
    "patch_transpose2d",
    "phase_sums",
    "pixel_shuffle",
    "pixel_unshuffle",
    "reassemble",
    "regrid",
    "resize",
    "suggest",
    "to_grid",
    "to_input",
    "to_output",
]
