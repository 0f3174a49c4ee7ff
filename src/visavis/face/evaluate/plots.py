"""Pictures of verification: the ROC and the DET curve, as PNG.

The DET curve shows both errors on axes bent so that normally distributed similarities give a straight line.
"""

import io
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, MissingExtraError
from visavis.face.evaluate.reports import VerificationReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["det_plot", "png", "roc_plot"]

_DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 0.8)
_COLOURS = {False: ("#0b62a4", "#c2410c", "#237032", "#7a3fa0"), True: ("#6cb6ff", "#ff9d66", "#69c37b", "#c59cf0")}


def roc_plot(reports: Sequence[VerificationReport], *, dark: bool = False) -> "Figure":
    """TAR over FAR, the latter in powers of ten, with the intervals at the operating points; see `png`.

    Args:
        reports: at least one; a curve each.
        dark: colours for a dark page.

    Raises:
        InputError: no reports.
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = _axes(
        reports, "FAR: pairs of different people accepted", "TAR: pairs of one person accepted, %", dark
    )
    axes.set_xscale("log")
    for report, colour in zip(reports, _cycled(reports, dark), strict=True):
        far, tar = _from_least(report)
        axes.step(far, 100 * tar, where="post", color=colour, label=report.name)
        fars = [point.far for point in report.operating_points]
        low = [100 * point.tar.low for point in report.operating_points]
        high = [100 * point.tar.high for point in report.operating_points]
        axes.vlines(fars, low, high, color=colour, alpha=0.5, linewidth=4)
    axes.set_xlim(max(1e-6, min(_least(report) for report in reports)), 1.0)
    _legend(axes, "lower right", dark)
    return figure


def det_plot(reports: Sequence[VerificationReport], *, dark: bool = False) -> "Figure":
    """False non-match over false match rate, both by the normal's quantiles; arguments and errors as `roc_plot`.

    Source: Martin et al., The DET curve in assessment of detection task performance, Eurospeech 1997.
    """
    figure, axes = _axes(
        reports, "FAR: pairs of different people accepted, %", "1 - TAR: pairs of one person refused, %", dark
    )
    for report, colour in zip(reports, _cycled(reports, dark), strict=True):
        far, tar = _from_least(report)
        inside = (far < 1) & (tar < 1) & (tar > 0)
        axes.plot(_quantiles(far[inside]), _quantiles(1 - tar[inside]), color=colour, label=report.name)
    ticks, names = _quantiles(np.array(_DET_TICKS)), [f"{100 * tick:g}" for tick in _DET_TICKS]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    low = max(1e-6, min(_least(report) for report in reports))
    ends = _quantiles(np.array([low / 1.5, 0.8]))
    axes.set_xlim(*ends)
    axes.set_ylim(*_quantiles(np.array([min(low * 10, 1e-3), 0.8])))
    _legend(axes, "upper right", dark)
    return figure


def png(figure: "Figure") -> bytes:
    """The picture as a file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _axes(reports: Sequence[VerificationReport], x: str, y: str, dark: bool) -> "tuple[Figure, Axes]":
    if not reports:
        raise InputError("reports: expected at least one, got none")
    try:
        from matplotlib.figure import Figure  # and not pyplot, which keeps figures and opens windows
    except ImportError as error:
        raise MissingExtraError('matplotlib: expected it to be installed; pip install "visavis[train]"') from error
    ink, ground = _ink(dark), "#1e2127" if dark else "#ffffff"
    figure = Figure(figsize=(6.0, 4.2), layout="constrained", facecolor=ground)
    axes = figure.add_subplot(facecolor=ground)
    axes.set_xlabel(x, color=ink)
    axes.set_ylabel(y, color=ink)
    axes.tick_params(colors=ink, which="both")
    axes.grid(True, color=ink, alpha=0.15)
    for spine in axes.spines.values():
        spine.set_color(ink)
    return figure, axes


def _legend(axes: "Axes", place: Literal["lower right", "upper right"], dark: bool) -> None:
    axes.legend(loc=place, frameon=False, labelcolor=_ink(dark))


def _ink(dark: bool) -> str:
    return "#e8eaed" if dark else "#1d2129"


def _cycled(reports: Sequence[Any], dark: bool) -> list[str]:
    colours = _COLOURS[dark]
    return [colours[index % len(colours)] for index in range(len(reports))]


def _from_least(report: VerificationReport) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve from the least FAR on that the pairs can tell; below it TAR is that at no false match."""
    inside = report.roc.far > 0
    at_none = report.roc.tar[~inside][-1]
    return np.append(_least(report) / 2, report.roc.far[inside]), np.append(at_none, report.roc.tar[inside])


def _least(report: VerificationReport) -> float:
    return 1 / report.impostor


def _quantiles(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = NormalDist()
    return np.array([normal.inv_cdf(float(share)) for share in shares])
