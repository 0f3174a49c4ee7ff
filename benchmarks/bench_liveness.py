"""How far the liveness stage tells photos from presentation attacks drawn from the same photos, and at what price.

    python benchmarks/bench_liveness.py

One frontal photo of each of 140 people of CFP and of the 25 validation photos of celeb5, as they are, through the
camera of the attacks (the control), and through five attacks; three of them once more out of focus. The threshold is
the one that calls a tenth of the controls of the first 40 people attacks; all rates are of the other 100. Beside the
networks, on the same crops: sharpness (variance of the Laplacian) and the highest peak of the Fourier spectrum.

These are drawings of attacks. Real prints and screens, masks, deep fakes and video fed in are not measured here, and
nothing here is a test by ISO/IEC 30107-3, whose words (APCER, BPCER) it borrows.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import attacks
import numpy as np
from harness import quartiles, write_result
from numpy.typing import NDArray
from protocols import celeb_photos, cfp_photos

from visavis.blocks.approximation import intervals
from visavis.errors import ModelError
from visavis.face import photos
from visavis.face.detect import Detector
from visavis.face.evaluate import bootstrap
from visavis.face.liveness import MIN_FACE_PX, Liveness, surroundings
from visavis.face.models import load_pack, models, pull
from visavis.face.records import Detection
from visavis.face.runtime import Network

TUNING, PEOPLE = 40, 140  # the first so many people of CFP set thresholds; so many are looked at in all
BPCER = 0.1  # of the controls that set the threshold
BLUR_PX = 1.5
SIZES_PX = (MIN_FACE_PX, 120, 180, 10_000)  # classes of faces, by the box's longer side in the photo
CONTROL, ORIGINAL = "camera alone", "photo as it is"

Pixels = NDArray[np.uint8]


class Look(NamedTuple):
    """One face as one system saw it."""

    person: str
    kind: str
    size_px: float  # of the face in the photo the attack was drawn from
    scores: dict[str, float]  # by system; higher: more like a live face


def drawn(image: Pixels, box: NDArray[np.float32], seed: int) -> Iterator[tuple[str, Pixels]]:
    """The photo, the control and every attack."""
    yield ORIGINAL, image
    for number, (kind, draw) in enumerate({CONTROL: attacks.camera, **attacks.ATTACKS}.items()):
        seen = draw(image, box, np.random.default_rng([seed, number]))
        yield kind, seen
        if kind in (CONTROL, "print", "screen"):
            yield f"{kind}, blurred", attacks.blurred(seen, BLUR_PX)


def sharpness(crop: Pixels) -> float:
    """Logarithm of the variance of the grey crop's Laplacian."""
    grey = crop.mean(2)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(np.log(laplacian.var() + 1e-6))


def fourier_peak(crop: Pixels) -> float:
    """How far the strongest wave shorter than 8 px stands out of waves of its length, in logarithms."""
    grey = crop.mean(2)
    window = np.hanning(grey.shape[0])[:, None] * np.hanning(grey.shape[1])
    power = np.log(np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 + 1e-6)
    frequency = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1]))
    ring = np.round(frequency * 64).astype(int)
    usual = np.array([np.median(power[ring == number]) for number in range(ring.max() + 1)])
    return float((power - usual[ring])[frequency > 1 / 8].max())


def look(detector: Detector, systems: dict[str, Liveness], sources: list[tuple[str, Path]]) -> dict[str, Any]:
    """Every drawn photo through every system."""
    looks: list[Look] = []
    missed: dict[str, int] = {}
    milliseconds: dict[str, list[float]] = {name: [] for name in systems}
    for seed, (person, path) in enumerate(sources):
        image = photos.read(path).pixels
        face = largest(detector, image)
        if face is None or longer_side(face) < MIN_FACE_PX:
            missed["the photo itself"] = missed.get("the photo itself", 0) + 1
            continue
        for kind, seen in drawn(image, face.box_xyxy_px, seed):
            found = largest(detector, seen)
            if found is None or longer_side(found) < MIN_FACE_PX:
                missed[kind] = missed.get(kind, 0) + 1
                continue
            scores = {}
            for name, system in systems.items():
                start = time.perf_counter()
                [answer] = system([(seen, found.box_xyxy_px)])
                milliseconds[name].append((time.perf_counter() - start) * 1e3)
                assert answer.score is not None
                scores[name] = answer.score
            left, top, right, bottom = surroundings(
                found.box_xyxy_px, models()["face-anti-spoofing"], seen.shape[1], seen.shape[0]
            )
            crop = seen[top:bottom, left:right]
            scores |= {"sharpness": sharpness(crop), "Fourier peak": fourier_peak(crop)}
            looks.append(Look(person, kind, longer_side(face), scores))
    return {
        "looks": looks,
        "missed": missed,
        "milliseconds": {name: quartiles(values, 1) for name, values in milliseconds.items()},
    }


def largest(detector: Detector, image: Pixels) -> Detection | None:
    """The face that fills most of the photo."""
    [found] = detector([image])
    return max(found, key=longer_side, default=None)


def longer_side(face: Detection) -> float:
    """Of the box, px."""
    left, top, right, bottom = face.box_xyxy_px
    return float(max(right - left, bottom - top))


def report(name: str, looks: list[Look], tuning: list[Look], others: list[Look]) -> dict[str, Any]:
    """Error rates of one system at the threshold that the tuning people set; intervals are 95 %."""

    def values(of: list[Look], kind: str) -> NDArray[np.float64]:
        return np.array([one.scores[name] for one in of if one.kind == kind])

    # What is not a network has no direction of its own: the tuning people set that, too.
    control, attacked = values(tuning, CONTROL), np.concatenate([values(tuning, kind) for kind in attacks.ATTACKS])
    sign = 1.0 if name in models() or area(control, attacked) >= 0.5 else -1.0
    threshold = float(np.quantile(sign * control, BPCER))

    def called_attack(of: list[Look], kind: str) -> NDArray[np.bool_]:
        return sign * values(of, kind) < threshold

    def share(wrong: NDArray[np.bool_]) -> dict[str, Any]:
        low, high = intervals.wilson(float(wrong.mean()), len(wrong)) if len(wrong) else (0.0, 1.0)
        rate = round(float(wrong.mean()), 4) if len(wrong) else None
        return {"rate": rate, "low": round(float(low), 4), "high": round(float(high), 4), "photos": len(wrong)}

    def errors(of: list[Look]) -> dict[str, Any]:
        bona_fide = [ORIGINAL, CONTROL, f"{CONTROL}, blurred"]
        attacking = [*attacks.ATTACKS, "print, blurred", "screen, blurred"]
        return {
            "bpcer": {kind: share(called_attack(of, kind)) for kind in bona_fide},
            "apcer": {kind: share(~called_attack(of, kind)) for kind in attacking},
        }

    people = sorted({one.person for one in looks})
    place = {person: number for number, person in enumerate(people)}

    def summary(weights: NDArray[np.float64]) -> list[float]:
        def weighted(kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            each = np.array([weights[place[one.person]] for one in looks if one.kind == kind])
            return sign * values(looks, kind), each

        live, live_weights = weighted(CONTROL)
        bpcer = float(live_weights @ (live < threshold) / live_weights.sum())
        apcer, areas = [], []
        for kind in attacks.ATTACKS:
            attack, attack_weights = weighted(kind)
            apcer.append(float(attack_weights @ (attack >= threshold) / attack_weights.sum()))
            areas.append(area(live, attack, live_weights, attack_weights))
        return [(bpcer + max(apcer)) / 2, *areas]

    draws = bootstrap.resample(summary, len(people), resamples=300)
    low, high = np.nanpercentile(draws, (2.5, 97.5), axis=0)
    plain = summary(np.ones(len(people)))
    triples = [
        {"value": round(value, 4), "low": round(float(a), 4), "high": round(float(b), 4)}
        for value, a, b in zip(plain, low, high, strict=True)
    ]
    live = np.sort(sign * values(looks, CONTROL))
    return {
        "threshold": round(sign * threshold, 4),
        "higher_is_live": sign > 0,
        **errors(looks),
        "acer_worst_attack": triples[0],
        "auc": dict(zip(attacks.ATTACKS, triples[1:], strict=True)),
        "roc": {  # APCER at thresholds that call so many of the very same controls attacks
            kind: {
                f"{rate:g}": round(float((sign * values(looks, kind) >= np.quantile(live, rate)).mean()), 4)
                for rate in (0.01, 0.05, 0.1, 0.2, 0.4)
            }
            for kind in attacks.ATTACKS
        },
        "by_size": {
            f"{low_px} to {high_px} px" if high_px < SIZES_PX[-1] else f"{low_px} px and more": errors(
                [one for one in looks if low_px <= one.size_px < high_px]
            )
            for low_px, high_px in itertools.pairwise(SIZES_PX)
        },
        "celeb5": errors(others),
    }


def area(
    live: NDArray[np.float64],
    attack: NDArray[np.float64],
    live_weights: NDArray[np.float64] | None = None,
    attack_weights: NDArray[np.float64] | None = None,
) -> float:
    """Chance that a live face scores above an attack; ties count half."""
    above = (live[:, None] > attack).astype(np.float64) + 0.5 * (live[:, None] == attack)
    rows = np.ones(len(live)) if live_weights is None else live_weights
    columns = np.ones(len(attack)) if attack_weights is None else attack_weights
    return float(rows @ above @ columns / (rows.sum() * columns.sum()))


def main() -> None:
    """Measure and write the result."""
    pack = load_pack("fast")
    path = pull(pack.detector)
    detector = Detector(Network(path, path.name, fixed_size=False), pack.detector)
    systems, absent = {}, {}
    for name, spec in models().items():
        if spec.role == "liveness":
            try:
                systems[name] = Liveness(replace(pack, liveness=spec))
            except ModelError as error:
                absent[name] = str(error).splitlines()[0]
    frontal: dict[int, Path] = {}
    for number, view, path in cfp_photos():
        if view == "frontal" and number <= PEOPLE:
            frontal.setdefault(number, path)
    cfp = look(detector, systems, [(str(number), path) for number, path in frontal.items()])
    celeb = look(detector, systems, [(path.parent.name, path) for path in celeb_photos() if "val" in path.parts])
    tuning = [one for one in cfp["looks"] if int(one.person) <= TUNING]
    rest = [one for one in cfp["looks"] if int(one.person) > TUNING]
    names = [*systems, "sharpness", "Fourier peak"]
    write_result(
        "liveness",
        {
            "min_face_px": MIN_FACE_PX,
            "people": {"threshold": TUNING, "measured": PEOPLE - TUNING},
            "blur_px": BLUR_PX,
            "not_found_or_too_small": {"cfp": cfp["missed"], "celeb5": celeb["missed"]},
            "milliseconds_a_face": cfp["milliseconds"],
            "systems": {name: report(name, rest, tuning, celeb["looks"]) for name in names},
            "absent": absent,
        },
        packages=("numpy", "openvino", "pillow", "scipy"),
    )


if __name__ == "__main__":
    main()
