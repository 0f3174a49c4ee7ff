"""The report of an evaluation: a self-contained HTML page and a JSON file with all of it."""

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavis import __version__
from visavis.app.files import draft_of
from visavis.app.output import printable
from visavis.app.report import data_uri, templates
from visavis.errors import PhotoError

if TYPE_CHECKING:
    from visavis.face.evaluate import Estimate, Evaluation, VerificationReport
    from visavis.face.models import Pack

__all__ = ["interval", "share", "write_evaluation"]

FACE_PX = 112  # of a picture
WITHOUT_FACE = 24  # shown as pictures
LISTED = 500  # names of files at most
RANKS = (1, 5, 10, 20)


def write_evaluation(
    evaluation: "Evaluation", folder: Path, *, pack: "Pack", data: Path, now: datetime | None = None
) -> dict[str, Any]:
    """Write ``report.html`` and ``report.json`` into a folder, each whole or not at all.

    Args:
        evaluation: from `visavis.face.evaluate.run`.
        folder: exists.
        pack: whose models were evaluated.
        data: where the photos came from, for the title.
        now: the time that is told; the present when absent.

    Returns:
        What report.json holds.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    specs = (pack.detector, pack.embedder)
    value = {
        "visavis": __version__,
        "made": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "data": str(data),
        "pack": pack.name,
        "models": [
            {"name": spec.name, "role": spec.role, "digest": spec.digest, "licence": spec.licence.name}
            for spec in specs
        ],
        **evaluation.to_json(),
    }
    environment = templates()
    without_face = evaluation.without_face()
    page = environment.get_template("evaluation.html").render(
        value=value,
        data=printable(data.name or str(data)),
        curves=_curves(evaluation.verification),
        tables=[_verification(report) for report in evaluation.verification],
        searches=[_identification(report) for report in evaluation.identification],
        hardest=[_hardest(evaluation, index) for index in range(len(evaluation.verification))],
        without_face=[
            {"picture": _picture(path, None), "caption": printable(path)} for path in without_face[:WITHOUT_FACE]
        ],
        without_face_names=[printable(path) for path in without_face[WITHOUT_FACE:LISTED]],
        unreadable=[
            (printable(path), printable(reason)) for path, reason in list(evaluation.unreadable().items())[:LISTED]
        ],
    )
    with draft_of(folder / "report.json") as draft:
        draft.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with draft_of(folder / "report.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return value


def share(value: float) -> str:
    """A measured share for people.

    >>> share(0.98765), share(1.0), share(0.00012)
    ('98.77 %', '100.00 %', '0.012 %')
    """
    return f"{_hundredths(value)} %"


def interval(estimate: "Estimate | None") -> str:
    """The ends of an interval for people.

    >>> from visavis.face.evaluate import Estimate
    >>> interval(Estimate(0.5, 0.25, 0.75))
    '25.00 to 75.00 %'
    """
    return "" if estimate is None else f"{_hundredths(estimate.low)} to {share(estimate.high)}"


def _hundredths(value: float) -> str:
    return f"{100 * value:.2f}" if value == 0 or value >= 0.001 else f"{100 * value:.2g}"


def _one_in(far: float) -> str:
    return f"1 in {1 / far:,.0f}"


def _curves(reports: Sequence["VerificationReport"]) -> list[dict[str, str]]:
    """Each picture for a bright and for a dark page."""
    from visavis.face.evaluate import det_plot, png, roc_plot

    texts = {
        roc_plot: "ROC: pairs of one person accepted, over pairs of different people accepted",
        det_plot: "DET: both errors, on axes bent by the normal distribution",
    }
    return [
        {"alt": text, **{name: data_uri(png(plot(reports, dark=name == "dark")), "png") for name in ("light", "dark")}}
        for plot, text in texts.items()
    ]


def _verification(report: "VerificationReport") -> dict[str, Any]:
    rows = []
    if report.accuracy is not None and report.accuracy_std is not None:
        told = f"over folds, standard deviation {share(report.accuracy_std)}"
        rows.append(("Accuracy", share(report.accuracy.value), interval(report.accuracy), told))
    rows.append(("Equal error rate", share(report.equal_error_rate.value), interval(report.equal_error_rate), ""))
    rows += [
        (
            f"TAR at FAR {_one_in(point.far)}",
            share(point.tar.value),
            interval(point.tar),
            f"similarity above {point.threshold:.4f}",
        )
        for point in report.operating_points
    ]
    groups = [
        {
            "name": printable(group.group),
            "people": group.people,
            "pairs": (group.impostor, group.genuine),
            "rates": [
                None if rate is None else (share(rate.value), interval(rate))
                for rate in (group.false_match_rate, group.false_non_match_rate)
            ],
        }
        for group in report.groups
    ]
    usual = report.usual
    return {"report": report, "rows": rows, "groups": groups, "far": None if usual is None else _one_in(usual.far)}


def _identification(report: Any) -> dict[str, Any]:
    rows = [
        (f"Among the first {rank}" if rank > 1 else "First (rank 1)", share(found.value), interval(found), "")
        for rank, found in enumerate(report.cumulative_match, 1)
        if rank in RANKS
    ]
    open_rows = [
        (
            f"Named rightly at FAR {_one_in(point.far)}",
            share(point.rate.value),
            interval(point.rate),
            f"similarity above {point.threshold:.4f}",
        )
        for point in report.open_set
    ]
    return {"report": report, "rows": rows, "open_rows": open_rows}


def _hardest(evaluation: "Evaluation", index: int) -> dict[str, Any]:
    """The pairs of either kind that came nearest to being taken for the other, or were."""
    report = evaluation.verification[index]
    usual = report.usual

    def pairs(numbers: Any, accepting_is_wrong: bool) -> list[dict[str, Any]]:
        rows = []
        for number in numbers:
            similarity = float(evaluation.similarities[index][number])
            sides = []
            for template in evaluation.protocol.pairs[index].rows[number]:
                row = evaluation.photo_row(int(template))
                path = evaluation.protocol.photos[row]
                box = evaluation.faces.boxes_xyxy_px[row] if evaluation.faces.found[row] else None
                caption = printable(f"{evaluation.protocol.people[int(template)]}: {path}")
                who = printable(evaluation.protocol.people[int(template)])
                sides.append({"picture": _picture(path, box), "caption": caption, "who": who})
            wrong = usual is not None and (similarity > usual.threshold) == accepting_is_wrong
            rows.append({"sides": sides, "similarity": f"{similarity:.3f}", "wrong": wrong})
        return rows

    return {
        "name": report.name,
        "far": None if usual is None else _one_in(usual.far),
        "impostors": pairs(report.hardest_impostors, True),
        "genuine": pairs(report.hardest_genuine, False),
    }


def _picture(path: Path, box_xyxy_px: Any) -> str:
    """The face with some surroundings, or the whole photo; empty where it cannot be read any more."""
    from PIL import Image

    from visavis.face.photos import read

    try:
        photo = read(path, long_side_px=1024)
    except PhotoError:
        return ""
    picture = Image.fromarray(photo.pixels)
    if box_xyxy_px is not None:
        left, top, right, bottom = (float(value) * photo.scale for value in box_xyxy_px)
        x, y, half = (left + right) / 2, (top + bottom) / 2, 0.75 * max(right - left, bottom - top, 2.0)
        # Of a box beside the photo at least a pixel of it stays.
        left, right = max(round(x - half), 0), min(round(x + half), picture.width)
        top, bottom = max(round(y - half), 0), min(round(y + half), picture.height)
        left, top = min(left, picture.width - 1), min(top, picture.height - 1)
        picture = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    picture.thumbnail((FACE_PX, FACE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return data_uri(buffer.getvalue())
