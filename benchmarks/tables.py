"""Writes the tables of README.md and docs/ from the files in results/, between the comments that name them.

python benchmarks/tables.py            # write
python benchmarks/tables.py --check    # exit with 1 when a page does not show what the files say
"""

import json
import math
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)

Result = dict[str, Any]


def result(name: str) -> Result:
    """The newest result of a benchmark, of whichever machine."""
    files = sorted((ROOT / "benchmarks" / "results").glob(f"{name}--*.json"))
    found = [json.loads(file.read_text()) for file in files]
    return max(found, key=lambda record: str(record["date"]))


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def source(record: Result) -> str:
    """Where, when and of which commit; `+`: other files had changed since."""
    machine = record["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, {record['date'][:10]}, commit {record['commit']}"


def accuracy() -> str:
    """Both packs and dlib itself on CFP; the rest of the accuracy benchmark."""
    record = result("accuracy")
    packs = {name: record[name] for name in ("fast", "default")}
    dlib = record["dlib itself, on the same detections"]

    def verified(row: Result) -> str:
        return f"{row['accuracy']:.2f} ± {row['std']:.2f}"

    def line(label: str, pick: Any, theirs: str = "") -> list[str]:
        return [label, *(pick(pack) for pack in packs.values()), theirs]

    known = not isinstance(dlib, str)
    rows = [
        line(
            "CFP frontal-frontal, accuracy %",
            lambda p: verified(p["cfp_ff"]),
            verified(dlib["cfp_ff"]) if known else "",
        ),
        line(
            "CFP frontal-profile, accuracy %",
            lambda p: verified(p["cfp_fp"]),
            verified(dlib["cfp_fp"]) if known else "",
        ),
    ]
    for protocol, label in (("cfp_ff", "frontal-frontal"), ("cfp_fp", "frontal-profile")):
        for rate in ("1e-2", "1e-3"):
            key = f"tar_at_far_{rate}"
            theirs = f"{dlib[protocol][key]:.2f}" if known else ""
            rows.append(line(f"{label}, TAR % at FAR {rate}", lambda p, a=protocol, k=key: f"{p[a][k]:.2f}", theirs))
    for key, label in (
        ("rank_1_frontal", "rank 1 of 500, one photo enrolled, frontal %"),
        ("rank_1_profile", "rank 1 of 500, profile %"),
        ("dir_at_far_1e-2_frontal", "half of the people unknown: DIR % at FAR 1 %, frontal"),
        ("dir_at_far_1e-2_profile", "the same, profile"),
    ):
        rows.append(line(label, lambda p, k=key: f"{p['cfp_identification'][k]:.2f}"))
    rows += [
        line("att_faces (23 x 28 px), TAR % at FAR 1e-2", lambda p: f"{p['att_faces']['tar_at_far_1e-2']:.2f}"),
        line("deepface's test pairs, accuracy %", lambda p: f"{p['deepface_tests']['accuracy']:.2f}"),
        line("sorting celeb5 + att_faces + CFP frontal, BCubed F", lambda p: f"{p['clustering']['bcubed']['f']:.3f}"),
        line(
            "of these, people the threshold was not chosen on",
            lambda p: f"{p['clustering']['bcubed_of_unseen_people']['f']:.3f}",
        ),
        line("false-match rate, claimed 1e-3, of people never seen", _measured_rate),
        line("frontal-frontal in float32, accuracy %", lambda p: verified(p["float32"]["cfp_ff"])),
        line("frontal-profile in float32, accuracy %", lambda p: verified(p["float32"]["cfp_fp"])),
    ]
    head = ["", "fast", "default", "dlib itself, same detections"]
    return (
        table(head, rows)
        + f"\nTen folds, mean ± standard deviation; bfloat16, the default, unless said. {source(record)}.\n"
    )


def _measured_rate(pack: Result) -> str:
    claims = pack["calibration_on_unseen_people"]
    return f"{claims['false_match_rate_measured'][claims['false_match_rate_claimed'].index(1e-3)]:.2g}"


def speed() -> str:
    """CPU time a photo and ratios to both peers, one thread."""
    record = result("speed")
    labels = {
        "fast": "fast",
        "fast float32": "fast, float32",
        "default": "default",
        "default float32": "default, float32",
        "face_recognition": "face_recognition",
        "deepface": "deepface",
    }
    rows = []
    for size in ("250 x 250", "web", "12 megapixels"):
        measured = record["threads: 1"][size]
        for name, label in labels.items():
            if name in measured:
                row = measured[name]
                ratios = [row.get(f"cpu ratio to {peer}") for peer in ("face_recognition", "deepface")]
                told = ["" if ratio is None else _spread(ratio) for ratio in ratios]
                rows.append([size, label, _spread(row["cpu_ms_per_photo"]), *told])
    head = ["photos", "", "CPU ms a photo", "photos for one of face_recognition's", "... of deepface's"]
    note = (
        "\nOne thread, from JPEG file to embeddings, all in one run; median, quartiles in brackets. deepface runs with "
        "YuNet and dlib's network, not its defaults, and looks at large photos at 320 px where we look at 1024. "
    )
    return table(head, rows) + note + source(record) + ".\n"


def _spread(quartiles: list[float]) -> str:
    low, middle, high = (f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in quartiles)
    return f"{middle} ({low}-{high})"


def scale() -> str:
    """Search, clustering and memory, what is slower than the peer beside what is quicker."""
    gallery, clustering, memory = result("gallery"), result("clustering"), result("memory")
    rows = []
    for entry in gallery["galleries"]:
        if entry["vectors"] == "identities" and entry["blas_threads"] == 1:
            one, many = entry["timings"]["search"], entry["search 64 at once / numpy 64 at once"]["cpu_p50"]
            first_s = max(start["open_and_search_s"] for start in entry["cold"])
            ratio = entry["search / numpy"]["cpu_p50"]
            told = (
                f"{one['wall_ms_p50']:.1f} ms (p95 {one['wall_ms_p95']:.1f}), recall {entry['recall_at_10']:.3f}; "
                f"CPU {ratio:.2f} x numpy's float32 product, 64 at once {many:.2f} x; first answer in {first_s:.2f} s"
            )
            rows.append([f"exact search among {entry['faces']:,} faces x {entry['dim']}", told])
    for name, runs in clustering["runs, a seed each"].items():
        walls = sorted(run["wall_s"] for run in runs)
        peak = max(run["peak_rss_mb"] for run in runs)
        rows.append(
            [f"sorting {int(name.split()[0]):,} faces", f"{walls[0]:.1f}-{walls[-1]:.1f} s, {peak:.0f} MB at most"]
        )
    for pack, run in memory["packs"].items():
        steps = ", ".join(f"{int(count):,}: {step['total_mb']}" for count, step in run["after photos"].items())
        rows.append(
            [
                f"indexing {run['photos']:,} photos, {pack}, {memory['workers']} processes",
                f"{run['photos_per_s']} photos/s; MB in all after photos {steps}; peak {run['peak_indexing_mb']}",
            ]
        )
    places = "; ".join(f"{record['benchmark']}: {source(record)}" for record in (gallery, clustering, memory))
    return table(["", ""], rows) + f"\nSearch and sorting on synthetic faces. {places}.\n"


def process() -> str:
    """Turned faces and templates, for both packs; what it costs."""
    record = result("process")
    rows, many = [], []
    for pack in ("fast", "default"):
        for way, found in record[pack]["frontal-profile"].items():
            weight = found.get("weight chosen on folds 1..5")
            label = way if weight is None else f"{way}, weight {weight:g}"
            figures = []
            for folds in ("folds 6..10, other people", "ten folds"):
                row = found[folds]
                figures.append(f"{row['accuracy']:.2f} ± {row['std']:.2f}")
                figures += [f"{row[f'TAR at FAR {far}']:.2f}" for far in ("0.01", "0.001")]
            rows.append([pack, label, *figures])
        many += [
            [pack, way, *(f"{value:.2f}" for value in row.values())] for way, row in record[pack]["templates"].items()
        ]
    measures = ("accuracy %", "TAR % at FAR 1e-2", "at 1e-3")
    head = [
        "pack",
        "CFP frontal-profile",
        *(f"folds 6-10, {name}" for name in measures),
        *(f"all, {name}" for name in measures),
    ]
    costs = [[way, _spread(quartiles)] for way, quartiles in record["cpu ms a crop, quartiles"].items()]
    return (
        table(head, rows)
        + "\nTemplates of people 251 to 500, frontal and profile photos mixed, against their other photos:\n\n"
        + table(["pack", "template of", "TAR % at FAR 1e-3", "TAR % at FAR 1e-4"], many)
        + "\nWhat it costs, one thread:\n\n"
        + table(["", "CPU ms a crop"], costs)
        + f"\nMedian, quartiles in brackets. {source(record)}.\n"
    )


def training() -> str:
    """Six losses, a network from scratch: mean and standard deviation over the seeds."""
    record = result("training")
    columns = {
        "CFP-FF accuracy": "frontal-frontal, accuracy %",
        "CFP-FP accuracy": "frontal-profile, accuracy %",
        "TAR at FAR 1e-2": "all pairs, TAR % at FAR 1e-2",
        "AUC": "all pairs, AUC %",
    }
    rows = [
        [loss, *(f"{statistics.mean(values[key]):.2f} ± {statistics.stdev(values[key]):.2f}" for key in columns)]
        for loss, values in record["from scratch, a value a seed"].items()
    ]
    people, photos, network = record["people"], record["photos"], record["network"]["mobilefacenet"]
    note = (
        f"\nUnseen people: learned from {photos['learned']:,} photos of {people['learned']} people of CFP, measured on "
        f"{photos['unseen']:,} of {people['unseen']} others. MobileFaceNet of width {network['width']}, "
        f"{network['size']} px, {record['settings']['epochs']} epochs; mean and standard deviation of three seeds. "
        f"No loss was tuned by itself. {source(record)}.\n"
    )
    return table(["loss", *columns.values()], rows) + note


def adapting() -> str:
    """The default pack on CFP: adapted in closed form on ten folds, by steps on the last two, and what is chance."""
    record, folds = result("adapting"), result("adapting_folds")

    def figures(row: Result) -> list[str]:
        return [
            f"{_seeds(row[protocol][name])}"
            for protocol in ("FF", "FP")
            for name in ("accuracy", "TAR at FAR 0.01", "TAR at FAR 0.001")
        ]

    measures = ("accuracy", "TAR 1e-2", "TAR 1e-3")
    head = ["", *(f"{kind}, {name}" for kind in ("frontal", "profile") for name in measures)]
    ten = [["as it is", *figures(record["ten folds"]["as it is"])]]
    ten += [[way, *figures(row)] for way, row in folds["ten folds"].items()]
    last = [["as it is", *figures(record["last two folds, as it is"])]]
    last += [["whitened", *figures(folds["last two folds"]["whitened"])]]
    for kind, losses in record["last two folds, by steps, a value a seed"].items():
        last += [[f"{kind}, plain softmax", *figures(folds["last two folds"][f"{kind}, plain softmax"])]]
        last += [[f"{kind}, {loss}", *figures(row)] for loss, row in losses.items()]
    gains = []
    for way, row in folds["ten folds"].items():
        for protocol, label in (("FF", "frontal"), ("FP", "profile")):
            gain = row[protocol]["after less before"]
            accuracy = f"{gain['accuracy']:+.2f} ± {gain['accuracy, standard error']:.2f}"
            better = f"{gain['folds better']} / {gain['folds worse']}"
            rates = []
            for name in ("TAR at FAR 0.01", "TAR at FAR 0.001"):
                low, middle, high = gain[name]
                rates.append(f"{middle:+.1f} ({low:+.1f} to {high:+.1f})")
            gains.append([way, label, accuracy, better, *rates])
    return (
        "Ten folds of CFP, each adapted by the 450 people of the others, in percent:\n\n"
        + table(head, ten)
        + "\nWhat was gained, a fold against the same fold as it is; ± standard error of the mean, in brackets the "
        "middle 95 of 100 draws of ten folds:\n\n"
        + table(["", "pairs", "accuracy", "folds better / worse", "TAR at FAR 1e-2", "TAR at FAR 1e-3"], gains)
        + "\nThe last two folds, adapted by people 1 to 400; by steps: mean ± standard deviation of three seeds:\n\n"
        + table(head, last)
        + f"\n{source(record)}; in pairs of folds: {source(folds)}.\n"
    )


def _seeds(values: float | list[float]) -> str:
    """One value, or the mean and spread of several."""
    if isinstance(values, float):
        return f"{values:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def classes() -> str:
    """Time and memory of a step against the three products and the peers."""
    record = result("classes")
    rows = []
    for count in ("100000", "1000000"):
        measured, extra = record[count]["timings"], record[count]["extra_gib"]
        for name, row in measured.items():
            memory = f"{extra[name]:.2f}" if name in extra else ""
            ratios = (_spread(row["x three products"]), _spread(row["x ArcFace, ours"]))
            rows.append([f"{int(count):,}", name, _spread(row["cpu_s"]), *ratios, memory])
    head = ["classes", "", "CPU s", "x the three products", "x ours", "extra GiB"]
    note = (
        f"\nForward and backward, {record['settings']['samples']} samples of {record['settings']['features']} "
        "features, float32, one thread; median, quartiles in brackets, ratios within a round. The three products are "
        f"those that no method can do without. Memory on top of weight and features. {source(record)}.\n\n"
    )
    growth = [
        [f"{int(count):,}", "measured", _spread(row["cpu_s"]), _spread(row["x three products"]), "", ""]
        for count, row in record["growth, ArcFace, ours"].items()
    ]
    for count, row in record["computed, not measured"].items():
        size = row["weight_gib"] + row["momentum_gib"] + row["gradient_gib"] + row["kept_matrix_gib"]
        growth.append([f"{int(count):,}", "computed", "", "", f"{row['step_gflop']:,}", f"{size:.1f}"])
    columns = ["classes", "", "CPU s", "x the three products", "GFLOP a step", "GiB in all, with momentum"]
    return table(head, rows) + note + table(columns, growth) + "\nHow ArcFace grows with the classes.\n"


def receptive() -> str:
    """Fields against the networks themselves: the facts' networks, then how many of all agreed."""
    record = result("receptive")
    shown = (
        *("alexnet", "vgg16", "squeezenet1_1", "googlenet", "resnet18", "resnet50", "resnet101", "mobilenet_v2"),
        *("regnet_x_400mf", "inception_v3", "densenet121", "convnext_tiny", "efficientnet_b0", "swin_t", "maxvit_t"),
    )
    rows = []
    for name in shown:
        row = record["rows"].get(f"torchvision/{name}")
        if row and "equal" in row:
            counts = [str(row["layers"]), str(row["largest finite"])]
            rows.append(
                [name, *counts, f"{row['seconds']:.2f}", f"{row['checks']:,}", "all" if row["equal"] else "not"]
            )
    summary = record["summary"]
    text = table(["network", "layers", "largest field, px", "CPU s", "checks", "agree"], rows)
    unchecked = "; ".join(f"{name}: {reason}" for name, reason in summary["not checked"].items())
    return (
        f"{text}\nChecked: {summary['torchvision']} networks of torchvision and {summary['timm']} of timm, of which "
        f"{summary['equal']} agreed with every forward pass; differing: "
        f"{', '.join(summary['different']) or 'none'}. Not checked: {unchecked or 'none'}. "
        f"CPU seconds of `fields` without weights: median {summary['median seconds']:.2f}, "
        f"largest {summary['largest seconds']:.2f}. {source(record)}.\n"
    )


def attention() -> str:
    """Times and memory by length; where the time goes."""
    record = result("attention")
    speed, extra = record["speed"], record["extra_mib"]
    lengths = list(speed)

    def time(name: str, length: str) -> str:
        row = speed[length].get(name)
        if row is None:
            return ""
        return f"{row['cpu_ms'][1]:,.0f}" if row.get("rounds") == 1 else _spread(row["cpu_ms"])

    rows = [
        [name, *(time(name, length) for length in lengths), f"{extra['8192'].get(name, math.nan):,.0f}"]
        for name in speed["256"]
    ]
    head = ["ms of", *(f"L = {int(length):,}" for length in lengths), "extra MiB, L = 8,192"]
    note = (
        "\nForward and backward, a batch of 1, 8 heads of 64 features, float32, one thread; median, quartiles in "
        "brackets; softmax attention at 32,768 in a single round. Memory on top of the inputs, with all results. "
        f"{source(record)}.\n\n"
    )
    usual, huge = record["where it goes, ms at 32768"], record["with huge pages, ms at 32768"]
    parts = [[name, _spread(usual[name]), _spread(huge[name])] for name in usual]
    columns = ["ms at L = 32,768", "as it is", "`THP_MEM_ALLOC_ENABLE=1`"]
    return table(head, rows) + note + table(columns, parts) + "\nThe parts, each by itself, in one process.\n"


def attention_accuracy() -> str:
    """What digits are told right by, with and without a softmax."""
    runs = result("attention")["accuracy"]
    names = {
        "softmax": "softmax",
        "elu from the start": "elu, trained from the start",
        "elu": "softmax, replaced by elu",
        "random features": "replaced by 64 random features",
        "as converted": "replaced by Hedgehog, not trained",
        "distilled": "the same, distilled",
        "distilled, then trained for a tenth of the epochs": "then trained for four epochs",
    }
    rows = [[told, _seeds([100 * run[name] for run in runs])] for name, told in names.items()]
    steps = [pair for run in runs for pair in run["divergence in nats, before and after, per block"]]
    before, after = (_seeds([pair[end] for pair in steps]) for end in (0, 1))
    note = (
        f"\nTwo blocks of 4 heads of 8 features, {len(runs)} splits and seeds, mean ± standard deviation. Distilling "
        f"took the divergence of the weights from {before} to {after} nats, block by block.\n"
    )
    return table(["attention", "unseen digits told right, %"], rows) + note


def activations_times() -> str:
    """Ours and the plain forms as multiples of ReLU; the memory of a stack of gated layers."""
    record = result("activations")
    times = record["times"]

    def cell(name: str) -> list[str]:
        if name not in times:
            return ["", ""]
        return [_spread(times[name]["times_relu"]), f"{times[name]['kept_mb']:.0f}"]

    names = [name for name in times if not name.endswith(", plain")]
    rows = [[name, *cell(name), *cell(f"{name}, plain")] for name in names]
    stack = record["stack"]
    return (
        table(["", "forward + backward, times ReLU", "kept, MB", "torch's, or composed", "kept, MB"], rows)
        + f"\n{' x '.join(map(str, record['shape']))} float32, one thread, median (quartiles) of {record['rounds']} "
        + f"rounds. {stack['layers']} gated layers of {stack['features']} features and {stack['tokens']} tokens, "
        + f"forward and backward, peak beyond weights and input: SwiGLU {stack['peak_mb']['ours']:.0f} MB, as usually "
        + f"written {stack['peak_mb']['plain']:.0f} MB. {source(record)}.\n"
    )


def activations_tails() -> str:
    """Relative errors in float32."""
    record = result("activations")
    tails = record["tails"]
    names = [name for name in tails if not name.endswith(", plain")]
    rows = [
        [name, *(f"{tails[key][what]:.1g}" for key in (name, f"{name}, plain") for what in ("value", "slope"))]
        for name in names
    ]
    head = ["largest relative error, -9 to 20", "value", "slope", "torch's value", "torch's slope"]
    return table(head, rows) + f"\n{source(record)}.\n"


def activations_facts() -> str:
    """The fact sheet."""
    facts = result("activations")["facts"]

    def number(value: float | str) -> str:
        return {"inf": "∞", "-inf": "-∞", "nan": "none"}.get(str(value), f"{float(value):.5g}")

    def zeros(found: list[list[float | str]]) -> str:
        return ", ".join(
            number(low)
            if low == high
            else f"x ≤ {number(high)}"
            if low == "-inf"
            else f"{number(low)} to {number(high)}"
            for low, high in found
        )

    rows = [
        [
            name,
            f"`{row['formula']}`",
            f"{number(row['range'][0])} to {number(row['range'][1])}",
            zeros(row["zeros"]) or "none",
            " and ".join(dict.fromkeys(map(number, row["slopes_at_zero"]))),
            number(row["lipschitz"]),
            row["saturates"],
            "yes" if row["monotone"] else "no",
            f"{row['introduced_by']}, {row['year']}",
            row["used_by"],
        ]
        for name, row in facts.items()
    ]
    head = [
        "",
        "formula",
        "range",
        "zeros",
        "slope at 0",
        "Lipschitz",
        "saturates",
        "monotone",
        "introduced by",
        "used by",
    ]
    return table(head, rows)


def estimators_digits() -> str:
    """The digits VAE by every estimator, the lowest -ELBO first."""
    record = result("estimators_digits")
    rows = []
    for name, row in sorted(record["estimators"].items(), key=lambda item: statistics.mean(item[1]["train"])):
        bias = statistics.mean(row["bias"])
        sure = max(3 * statistics.mean(row.get("bias error", [0.0])), 5e-4)
        told = f"{bias:.3f}" if bias > sure else "0"
        figures = (_seeds(row["train"]), _seeds(row["test"]), told, f"{statistics.mean(row['variance']):.3g}")
        rows.append([name, f"{row['calls']:,.0f}", *figures, f"{statistics.median(row['cpu_s']):.1f}"])
    head = ["estimator", "values of f", "train -ELBO", "test -ELBO", "rel. bias²", "rel. variance", "CPU s"]
    settings = record["settings"]
    note = (
        f"\n{settings['steps']:,} steps of Adam, mean and standard deviation of {len(settings['seeds'])} seeds. No "
        "estimator was tuned, but Quadratic's two constants were chosen on these seeds, among settings that gave 17.97 "
        "to 18.17. Bias and variance: of the encoder's gradient, the mean of three models trained by the "
        "exact gradient; 0: not told from none (three standard errors). Values of f: a datum and step; not counted: "
        f"gradients. {source(record)}.\n"
    )
    return table(head, rows) + note


def estimators_polynomial() -> str:
    """The final expected loss of polynomial programming, the lowest at p = 2 first."""
    record = result("estimators_polynomial")
    losses = record["final loss, a value a seed"]
    rows = [["optimum", "", *(f"{value:.4f}" for value in record["optimum"].values()), ""]]
    for name in sorted(losses["2.0"], key=lambda name: statistics.mean(losses["2.0"][name])):
        draws = "" if name == "exact" else f"{record['draws'][name]}"
        means = (f"{statistics.mean(losses[power][name]):.4f}" for power in losses)
        rows.append([name, draws, *means, f"{statistics.median(record['cpu_s'][name]):.1f}"])
    settings = record["settings"]
    note = (
        f"\nMean of {len(settings['seeds'])} seeds, {settings['steps']:,} steps of Adam, {settings['bits']} bits, "
        f"{settings['batch']} copies a step; no estimator was tuned. {source(record)}.\n"
    )
    return table(["estimator", "draws", *(f"p = {power}" for power in losses), "CPU s"], rows) + note


def estimators_speed() -> str:
    """Differentiable draws as multiples of a softmax."""
    record = result("estimators_speed")
    settings = record["settings"]
    rows = [
        [
            name,
            _spread(row["x softmax"]),
            f"{settings['aims'][name]}" if name in settings["aims"] else "",
            f"{row['memory x logits']:.1f}",
        ]
        for name, row in record["draws"].items()
    ]
    note = (
        f"\nForward and backward, {settings['shape']} float32, one thread, CPU time; median, quartiles in brackets, "
        f"ratios within a round; memory on top of logits and upstream gradient. {source(record)}.\n"
    )
    return table(["draw", "x softmax", "aim", "memory, x logits"], rows) + note


def approximation_medians() -> str:
    """Median of n values one by one: variance over the optimum, and what the intervals cover."""
    record = result("approximation_errors")
    rows = []
    for name, row in record["medians"].items():
        law, method = name.split(", ")
        ratio = f"{row['n Var over the optimum']:.3f} ± {row['standard error']:.3f}"
        covered = row.get("coverage of 95 %")
        rows.append([law, method, ratio, "" if covered is None else f"{100 * covered:.1f}"])
    settings = record["settings"]
    note = (
        f"\n{settings['looks']} values, {settings['runs']} runs, standard error after ±; RootSearch sees comparisons "
        f"only and starts 2 away. {source(record)}.\n"
    )
    return table(["law", "method", "n Var / optimum", "95 % interval covers, %"], rows) + note


def approximation_minima() -> str:
    """Minima of noisy functions, ours beside noisyopt."""
    record = result("approximation_errors")
    rows = [
        [problem, method, f"{quartiles[1]:.3g} ({quartiles[0]:.3g} to {quartiles[2]:.3g})"]
        for problem, methods in record["minima"].items()
        for method, quartiles in methods.items()
    ]
    note = (
        f"\n20 unknowns, noise 1, start at distance 20 (squared); 30 runs, quartiles in brackets. {source(record)}.\n"
    )
    return table(["function", "method", "squared distance left"], rows) + note


def approximation_averages() -> str:
    """What averages of an optimizer's iterates leave, and what an update costs."""
    errors, times = result("approximation_errors"), result("approximation_speed")
    cost = {name: row["cpu_ms_p50"] for name, row in times["average"].items()}
    rows = []
    for name, quartiles in errors["averages"].items():
        milliseconds = f"{cost[name]:.2f}" if name in cost else ""
        rows.append([name, f"{quartiles[1]:.3g} ({quartiles[0]:.3g} to {quartiles[2]:.3g})", milliseconds])
    rows.append(["torch._foreach_lerp_, the bare update", "", f"{cost['_foreach_lerp_']:.2f}"])
    note = (
        f"\n1000 steps of SGD at rate .1 on a parabola in 50 dimensions with gradient noise 1, 30 runs; an update of "
        f"100 matrices of 256 x 256, one thread, CPU time. {source(times)}.\n"
    )
    return table(["average", "squared distance left", "CPU ms an update"], rows) + note


def approximation_streams() -> str:
    """Statistics of a stream of 10M floats as multiples of one torch pass, and the ranks' errors."""
    times, errors = result("approximation_speed"), result("approximation_errors")
    columns = [name for name in times if name.startswith("stream")]
    rows = [
        [name, *(f"{times[c][name]['cpu_ms_p50'] / times[c]['torch.var_mean']['cpu_ms_p50']:.2f}" for c in columns)]
        for name in times[columns[0]]
    ]
    ranks = errors["ranks"]
    orders = ("random", "sorted", "reversed")
    lines = [
        ["Running, worst of nine shares", *(f"{100 * ranks[order]:.2f}" for order in orders)],
        ["river P2, median of 10^5", *(f"{100 * ranks[f'river, {order}, median']:.2f}" for order in orders)],
    ]
    note = (
        f"\nMultiples of torch.var_mean over the same chunks, {times['settings']['rows']} float32, one thread, "
        f"CPU time, medians of 7. {source(times)}.\n\n"
    )
    heads = [column.removeprefix("stream, ") for column in columns]
    tail = f"\nError in rank, % of the rows. {source(errors)}.\n"
    return table(["pass", *heads], rows) + note + table(["quantiles of a stream", *orders], lines) + tail


def metrics() -> str:
    """Trained by the measure, or by cross-entropy."""
    record = result("metrics")
    rows = []
    for measure in (key for key, found in record.items() if isinstance(found, dict) and "cross-entropy" in str(found)):
        if measure == "times cross-entropy":
            continue
        for name, row in record[measure].items():
            base = name.startswith("cross-entropy") and row["gain error"] == 0
            gain = "" if base else f"{row['gain']:+.3f} ± {row['gain error']:.3f}"
            rows.append([measure, name, f"{row['mean']:.3f} ± {row['std']:.3f}", gain])
    settings = record["settings"]
    note = (
        f"\nLinear models on scikit-learn's digits, {settings['seeds']} splits: mean and standard deviation, and the "
        "mean difference to the first line of each with its standard error. Steps of Adam the best of "
        f"{', '.join(map(str, settings['steps']))}, temperatures the best of "
        f"{', '.join(map(str, settings['temperatures']))}, on data held back. {source(record)}.\n"
    )
    return table(["exact measure, unseen digits", "trained by", "", "gain"], rows) + note


def metrics_times() -> str:
    """What a smooth metric costs beside cross-entropy."""
    record = result("metrics")
    rows = [[name, _spread(quartiles)] for name, quartiles in record["times cross-entropy"].items()]
    note = (
        "\nForward and backward, CPU time, one thread: 10,000 answers among ten classes as multiples of cross-entropy, "
        f"10,000 scores as multiples of binary cross-entropy; median (quartiles). {source(record)}.\n"
    )
    return table(["", "times cross-entropy"], rows) + note


def bias() -> str:
    """What was folded and what was redundant, over all networks tried, and three of them."""
    record = result("bias")
    summary, rows = record["summary"], record["rows"]
    how, found = summary["folded"], summary["redundant"]
    lines = [
        ["networks folded", f"{summary['folded networks']} of {summary['networks']}"],
        ["their BatchNorms", str(summary["norms"])],
        *(
            [f"norms and scales folded {kind}", str(how[kind])]
            for kind in ("back", "ahead", "clamp", "shift")
            if kind in how
        ),
        ["left, with the reason", str(summary["left"])],
        ["largest difference of outputs, float32", f"{summary['largest error']:.1e}"],
        [
            f"of the {summary['networks fx also runs']} that torch.fx's fuse runs on: folded by ours, by it",
            f"{summary['ours there']}, {summary['fx there']}",
        ],
        ["networks whose biases were checked", str(summary["networks with biases checked"])],
        ["biases checked", str(summary["biases"])],
        *([f"redundant {kind}", str(count)] for kind, count in sorted(found.items())),
        ["parameters of these", str(summary["redundant parameters"])],
        ["largest change of an output", f"{summary['largest change']:.1e}"],
        ["named by the rules, output changed all the same", str(sum(map(len, summary["unproved"].values())))],
    ]
    facts = [
        [name.split("/")[1], str(rows[name]["fx"].get("left", "fails")), str(len(rows[name]["fold"]["left"]))]
        for name in ("torchvision/densenet121", "torchvision/maxvit_t")
        if "how" in rows.get(name, {}).get("fold", {})
    ]
    both = table(["", ""], lines) + "\n" + table(["norms left", "torch.fx fuse", "`bias.fold`"], facts)
    return f"{both}\nRandom weights. {source(record)}.\n"


def upsampling() -> str:
    """Upsampling layers as multiples of one matrix product, in both layouts, and the memory that each needs."""
    record = result("upsampling")
    rows = []
    for name, row in record["layers"].items():
        cells = [
            f"{row[key]['x product'][1]:.2f}" if key in row else ""
            for layout in ("NCHW", "channels-last")
            for key in (f"{layout}, forward", f"{layout}, forward and backward")
        ]
        rows.append([name, *cells, f"{row['extra_mb']:.0f}" if "extra_mb" in row else ""])

    def against_torch(name: str) -> str:
        keys = ("NCHW, forward", "NCHW, forward and backward", "channels-last, forward")
        return ", ".join(f"{key} {_spread(record['layers'][name][key]['x torch'])}" for key in keys)

    note = (
        f"\nTimes the product of 64 to 256 channels on 128 x 128 pixels in the same layout and direction, of the same "
        f"round, median of {record['rounds']}; x2 of {' x '.join(map(str, record['shape']))}, float32, one thread, CPU "
        f"time. Memory: MB on top of input and output, NCHW, 8 images, forward. Times torch's own, quartiles in "
        f"brackets: transposed convolution {against_torch('transposed convolution k2 s2')}; pixel shuffle "
        f"{against_torch('pixel shuffle')}. {source(record)}.\n"
    )
    head = ["layer", "NCHW, forward", "with backward", "channels-last, forward", "with backward", "MB"]
    return table(head, rows) + note


def blocks() -> str:
    """A line or two for each block that was measured beside others."""
    digits = result("estimators_digits")["estimators"]
    draws = result("estimators_speed")["draws"]
    errors = result("approximation_errors")
    minima = errors["minima"]["parabola"]
    activations, attention, fields = result("activations"), result("attention"), result("receptive")["summary"]
    long = attention["speed"]["32768"]

    def loss(name: str) -> str:
        return f"{statistics.mean(digits[name]['train']):.2f}"

    def times(name: str) -> str:
        return f"{draws[name]['x softmax'][1]:.1f}"

    def relu(name: str) -> str:
        return f"{activations['times'][name]['times_relu'][1]:.1f}"

    record = result("soft_ranks")
    [maps] = record["maps"].values()
    rank = record["ranks"]["100 x 1000"]["rank, strength 1"]["ratio"][1]
    medians = errors["medians"]
    worst = max(row["n Var over the optimum"] for name, row in medians.items() if name.endswith("RunningQuantile"))
    rows = [
        [
            "estimators: -ELBO of a VAE of digits, 4 draws (exact gradient: " + loss("exact") + ")",
            loss("Quadratic, 4 draws (ours)"),
            f"RLOO {loss('RLOO, 4 draws')}",
        ],
        [
            "estimators: a Gumbel-softmax draw, times a softmax",
            times("Gumbel-softmax, soft, ours"),
            f"torch {times('Gumbel-softmax, soft, torch.nn.functional')}",
        ],
        ["estimators: ReinMax, times a softmax", times("ReinMax, ours"), f"its package {times('ReinMax, reinmax')}"],
        ["surrogates: soft ranks, 100 x 1,000, times torch.sort", f"{rank:.1f}", ""],
        [
            "surrogates: sparsemax, 100 x 10,000, times softmax",
            f"{maps['sparsemax']['ratio'][1]:.1f}",
            f"entmax {maps['entmax package, sparsemax']['ratio'][1]:.0f}",
        ],
        [
            "approximation: a running median, variance over the best possible, worst of three laws",
            f"{worst:.2f}",
            "",
        ],
        [
            "approximation: SPSA, squared error",
            f"{minima['spsa'][1]:.4f}, no gains set",
            f"noisyopt {minima['noisyopt, defaults'][1]:.2f}; its gains the best of 15: {_best_gains(minima)}",
        ],
        [
            "activations: quick GELU, times ReLU",
            relu("quick_gelu"),
            f"composed {relu('quick_gelu, plain')}",
        ],
        [
            f"activations: {activations['stack']['layers']} SwiGLU layers, peak MB",
            f"{activations['stack']['peak_mb']['ours']:.0f}",
            f"as usually written {activations['stack']['peak_mb']['plain']:.0f}",
        ],
        [
            "receptive: networks of torchvision and timm on which the network itself contradicts nothing",
            f"{fields['equal']} of {fields['equal'] + len(fields['different'])}",
            "",
        ],
        [
            "attention: causal, 32,768 places, forward and backward",
            f"{long['linear causal, ours']['cpu_ms'][1] / 1000:.2f} s",
            f"SDPA {long['SDPA causal']['cpu_ms'][1] / 1000:.0f} s",
        ],
    ]
    note = "\nHow each was measured, and where it loses: on its page. One thread, float32.\n"
    return table(["", "ours", "beside it"], rows) + note


def _best_gains(minima: Result) -> str:
    return next(f"{quartiles[1]:.4f}" for name, quartiles in minima.items() if name.endswith("the best of 15"))


def soft_ranks() -> str:
    """Ranks as multiples of a sort, sparse maps as multiples of a softmax."""
    record = result("soft_ranks")
    ranks, maps = record["ranks"], record["maps"]
    names = [name for name in next(iter(ranks.values())) if name != "torch.sort"]
    rows = [[name, *(_spread(size[name]["ratio"]) for size in ranks.values())] for name in names]
    [(shape, found)] = maps.items()
    more = [[name, _spread(row["ratio"])] for name, row in found.items() if name != "softmax"]
    out = f"Not installed, left out: {', '.join(record['left out'])}. " if record["left out"] else ""
    note = (
        "\nForward and backward, CPU time, one thread, median (quartiles) of "
        f"{record['rounds']} rounds. {out}{source(record)}.\n"
    )
    return table(["times torch.sort", *ranks], rows) + "\n" + table([f"times softmax, {shape}", ""], more) + note


def encryption() -> str:
    """What a gallery costs with a key beside one without."""
    record = result("encryption")
    ways = ("plain", "encrypted")

    def row(what: str, pick: Any) -> list[str]:
        return [what, *(pick(size, way) for size in record["sizes"] for way in ways)]

    def timing(what: str) -> list[str]:
        return row(f"{what}, ms *", lambda size, way: f"{size['timings'][f'{what}, {way}']['cpu_ms_p50']:.2f}")

    def cold(what: str, name: str) -> list[str]:
        return row(what, lambda size, way: f"{size['cold'][way][name][1]:.2f}")

    rows = [
        row("inserting a face, ms *", lambda size, way: f"{size['insert_cpu_ms'][way]:.2f}"),
        row("file, MB", lambda size, way: f"{size['file_mb'][way]:,.0f}"),
        cold("opening, s *", "open_cpu_s"),
        cold("the first search of a process, s *", "first_search_cpu_s"),
        row("memory after it, MB", lambda size, way: f"{size['cold'][way]['rss_mb'][1]:,.0f}"),
        timing("search"),
        timing("50 thumbnails"),
    ]
    head = ["", *(f"{size['faces']:,} faces, {way}" for size in record["sizes"] for way in ways)]
    converted = "; ".join(
        f"{size['faces']:,} faces: encrypting {size['convert_s']['encrypt']:g} s, decrypting "
        f"{size['convert_s']['decrypt']:g} s, forgetting 20 faces and looking through "
        f"{size['forget']['bytes'] / 2**20:,.0f} MB {size['forget']['seconds']:g} s"
        for size in record["sizes"]
    )
    for start in record["starts"]:
        plain, encrypted = (start[way]["first_search_cpu_s"][1] for way in ways)
        converted += f"; {start['faces']:,} faces: the first search {plain:.2f} s plain, {encrypted:.2f} s encrypted *"
    return (
        table(head, rows)
        + f"\nMedians; *: processor time, for the machine did other work (load {record['load_before']:g}). "
        f"{converted}. {source(record)}.\n"
    )


def store() -> str:
    """The gallery in a folder and on a Milvus server."""
    record = result("store")
    rows = []
    for one in sorted(record["galleries"], key=lambda one: (one["faces"], one["dim"], one["engine"])):
        rounds = one["rounds"]
        low, high = (pick(turn["ms_p50"] for turn in rounds) for pick in (min, max))
        seconds = sum(fill["seconds"] for fill in one["fills"])
        rows.append(
            [
                f"{one['faces']:,} x {one['dim']}, {one['engine']}",
                f"{low:g}-{high:g}",
                f"{max(turn['ms_p95'] for turn in rounds):g}",
                f"{min(turn['ms_each_of_64_at_once'] for turn in rounds):g}",
                f"{one['recall_at_10']:.4f}",
                f"{max(turn['client_rss_added_mb'] for turn in rounds):,.0f} + {one['server_rss_mb']:,.0f}",
                f"{max(turn['open_and_search_s'] for turn in rounds):.2g}",
                f"{one['faces'] / seconds:,.0f}",
                f"{one['fills'][-1]['index_photos_per_s']:g}",
                f"{one['disk_mb']:,.0f}",
            ]
        )
    head = ["faces x dimensions", "search, ms p50", "p95", "each of 64 at once", "recall@10", "MB, client + server"]
    head += ["first answer, s", "filled, faces/s", "indexed, photos/s", "disk, MB"]
    note = (
        "Single queries for the ten nearest, in three processes in turn: the range of their medians, the worst of "
        "their 95th percentiles. The folder is filled with 1,000 photos a transaction; Milvus by migrating it, which "
        "reads all again to compare. Indexed: transactions of eight photos of one face, by one writer. Milvus "
        f"{record['versions']['milvus']} on the same machine, its tick 20 ms. {source(record)}."
    )
    return table(head, rows) + f"\n{note}\n"


def _event(event: Result) -> str:
    """An action in a few words."""
    rest = {key: value for key, value in event.items() if key != "action"}
    shown = ", ".join(json.dumps(value, ensure_ascii=False) for value in rest.values())
    return f"{event['action']} {shown}".strip()


def _outcome(found: Result) -> str:
    """What came of a reply: right, or what else."""
    if found["right"]:
        return "right"
    if found["files"]:
        return "**runs the code**"
    if found["error"]:
        return "error: " + found["error"].split(":")[0]
    return "; ".join(f"`{_event(event)}`" for event in found["events"]) or "nothing happens"


def actions_cases() -> str:
    """What others get wrong, and what becomes of it in `ui-tars` and here."""
    record = result("actions")
    rows = [
        [row["case"].replace("|", "\\|").replace("<", "&lt;"), _outcome(row["ui-tars"]), _outcome(row["ours"])]
        for row in record["cases"]
    ]
    right = {name: sum(row[name]["right"] for row in record["cases"]) for name in ("ui-tars", "ours")}
    rows.append([f"**right of {len(rows)}**", str(right["ui-tars"]), str(right["ours"])])
    return table(["reply", f"ui-tars {record['versions']['ui-tars']}", "visavis"], rows)


def actions_fuzz() -> str:
    """Fuzzed replies by dialect, long ones, and the pace beside `ui-tars`."""
    record = result("actions")
    fuzz, pace = record["fuzz"], record["pace"]
    rows = [[name, str(read), f"{fuzz['parses/s'][name]:,}"] for name, read in fuzz["read %"].items()]
    low, median, high = fuzz["us, quartiles"]
    slowest = max(record["long"].values(), key=lambda row: row["ms"][1])["ms"][1]
    ratios = [row["ratio"] for row in record["long"].values() if row["ms"][0] >= 10]
    spaces = pace["ui-tars, ms of a thought of so many spaces"]
    counts = list(spaces)
    shorter, longer = record["lengths"]
    ours, theirs = (f"{pace['replies/s'][name][1]:,.0f}" for name in ("ours", "ui-tars"))
    return (
        table(["dialect", "read %", "parses/s"], rows)
        + f"\n{fuzz['strings']:,} strings, {fuzz['parses']:,} parses: {fuzz['crashes']} crashes, "
        f"{fuzz['evaluated, imported, opened or started']} evaluations, imports, files or processes, "
        f"{fuzz['read but not as written again']} replies that were read and did not come back the same when written. "
        f"A parse took {median} us in the median ({low} to {high} the middle half), "
        f"{fuzz['us, p99.9']} us at the 99.9th percentile, {fuzz['ms, worst']} ms at the worst.\n\n"
        f"{len(record['long'])} kinds of hostile reply, {shorter:,} and {longer:,} characters long: the longer "
        f"took {min(ratios)} to {max(ratios)} times the time (those of 10 ms or more), and the slowest of all took "
        f"{slowest / 1e3:.1f} s. ui-tars takes {spaces[counts[0]]} ms for a thought of {counts[0]} spaces and "
        f"{spaces[counts[-1]]} ms for {counts[-1]}.\n\n"
        f"On replies that both read, {ours} replies/s to {theirs} of ui-tars, which uses Python's own parser: "
        f"{_spread(pace['ratio'])} times its pace. CPU time of one thread. {source(record)}.\n"
    )


def agent_recall() -> str:
    """How many tasks long-term memory recalls rightly, and for how many strange ones it recalls something."""
    record = result("agent")
    halves = list(next(iter(record["recall"].values())))
    rows = [
        [
            name,
            *(f"{half['right']} of {half['tasks']}, {half['false']} of {half['unknown']}" for half in found.values()),
        ]
        for name, found in record["recall"].items()
    ]
    return table(["likeness", *(f"{half}: right, false" for half in halves)], rows) + f"\n{source(record)}.\n"


def agent_times() -> str:
    """What the runtime costs a step, and a recall."""
    record = result("agent")
    width, height = record["size"]
    rows = [[f"a step, {name}", _spread(times)] for name, times in record["step_ms"].items()]
    for count, times in record["recall_ms"].items():
        rows.append(
            [f"a recall, {int(count):,} tasks stored", f"{_spread(times['later'])}; the first {times['first']}"]
        )
    return table([f"at {width} x {height}", "ms"], rows) + f"\n{source(record)}.\n"


def screens() -> str:
    """Looks at an X display and events sent to one, beside others."""
    record = result("screens")

    def short(number: float) -> str:
        return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"

    def row(display: str, what: str, way: str, times: list[float], count: float) -> list[str]:
        low, middle, high = map(short, times)
        return [display, what, way, f"{middle} ({low} to {high})", short(1e3 * count / times[1])]

    rows = []
    for size, looks in record["x11_looks"].items():
        for way, times in looks["raw"].items():
            rows.append(row(size, "a look", way, [times[f"wall_ms_p{percent}"] for percent in (25, 50, 75)], 1))
        for way, times in looks["png"].items():
            what = f"a look as PNG, {short(looks['png_bytes'][way] / 1e3)} kB"
            rows.append(row(size, what, way, [times[f"wall_ms_p{percent}"] for percent in (25, 50, 75)], 1))
    for what, acted in record["x11_events"].items():
        if acted:
            way = what if what.startswith("xdotool") else f"X11Screen, {what}"
            milliseconds = [1e3 * second for second in acted["seconds"]]
            rows.append(row("1280 x 800", f"events: {acted['events']:,}", way, milliseconds, acted["events"]))
        else:
            rows.append(["1280 x 800", "events: 1", what, "not installed here", ""])
    lines = table(["display", "", "", "ms: median (quartiles)", "a second"], rows)
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("mss", "pillow", "python-xlib"))
    return f"{lines}\n{source(record)}; {versions}.\n"


def screens_chromium() -> str:
    """Looks at a page and actions on it, beside Selenium."""
    record = result("screens")
    rows = []
    for what, ways in record["chromium"].items():
        ours = ways["ChromiumScreen"]["wall_ms_p50"]
        for way, times in ways.items():
            low, middle, high = (f"{times[f'wall_ms_p{percent}']:.3g}" for percent in (25, 50, 75))
            rows.append([what, way, f"{middle} ({low} to {high})", f"{times['wall_ms_p50'] / ours:.2g}"])
    lines = table(["1280 x 800, a page like a photo", "", "ms: median (quartiles)", "times ours"], rows)
    return f"{lines}\n{source(record)}; selenium {record['versions']['selenium']}.\n"


def miniwob_oracles() -> str:
    """Success of every oracle that lost an episode, and of all."""
    record = result("miniwob-oracles")
    tasks = record["tasks"]

    def row(name: str, some: list[dict[str, Any]], low: float) -> list[str]:
        wins, episodes = (sum(task[key] for task in some) for key in ("wins", "episodes"))
        steps = sum(task["mean_steps"] for task in some) / len(some)
        return [name, f"{wins:,} of {episodes:,}", f"{100 * low:.1f} %", f"{steps:.1f}"]

    imperfect = [task for task in tasks if task["wins"] < task["episodes"]]
    perfect = [task for task in tasks if task not in imperfect]
    rows = [row(f"`{task['task']}`", [task], task["low"]) for task in sorted(imperfect, key=lambda each: each["wins"])]
    rows.append(row(f"each of the other {len(perfect)}", perfect, perfect[0]["low"]))
    rows[-1][1] = f"{perfect[0]['wins']} of {perfect[0]['episodes']}"
    rows.append(row(f"**all {len(tasks)}**", tasks, record["low"]))
    return (
        table(["task", "won", "at least, 95 %", "actions"], rows)
        + f"\n{record['seconds']:,} s for all. {source(record)}; miniwob {record['versions']['miniwob']}.\n"
    )


def miniwob_speed() -> str:
    """Ours and the stock harness in turn."""
    record = result("miniwob-speed")
    names = {"stock": "miniwob, Selenium", "one frame": "ours, one frame", "ours": f"ours, {record['frames']} frames"}
    rows = []
    for name, shown in names.items():
        row = [shown]
        for measure in ("episodes_per_s", "clicks_per_s"):
            ratio = record[name][measure][1] / record["stock"][measure][1]
            row += [_spread(record[name][measure]), f"{ratio:.1f}"]
        rows.append(row)
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("miniwob", "selenium"))
    return (
        table(["", "episodes/s", "times stock", "clicks/s", "times stock"], rows)
        + f"\nMedians and quartiles of {record['rounds']} rounds. {source(record)}; {versions}.\n"
    )


def grounding() -> str:
    """What a set made of npm packages holds, and how much of it is hit by chance."""
    record = result("grounding")
    rows = [
        [
            f"{name} {row['version']}" if row["version"] else f"**{name}**",
            *(f"{row[column]:,}" for column in ("pages", "targets", "text", "icon")),
            f"{row['side_px'][1]:.0f} ({row['side_px'][0]:.0f}-{row['side_px'][2]:.0f})" if row["targets"] else "",
            f"{row['middle']['hits']} ({100 * row['middle']['low']:.1f}-{100 * row['middle']['high']:.1f} %)"
            if row["targets"]
            else "",
        ]
        for name, row in record["sources"].items()
    ]
    head = ["package", "pages", "targets", "text", "icon", "shorter side, px", "hit in the middle"]
    return table(head, rows) + f"\nMedians and quartiles, Wilson's 95 % intervals. {source(record)}.\n"


def serve_load() -> str:
    """Latency by endpoint while a folder is indexed, memory over time, and what kills have cost."""
    record = result("serve_load")
    load, kills = record["load"], record["kills"]
    rows = [
        [name, f"{row['requests']:,}", *(f"{row[f'p{part}_ms']:,.0f}" for part in (50, 95, 99))]
        for name, row in load["endpoints"].items()
    ]
    errors = {status: count for status, count in load["statuses"].items() if status != "200"}
    memory = "; ".join(
        f"{role} {parts['second_quarter']:,.0f}, {parts['third_quarter']:,.0f}, {parts['last_quarter']:,.0f}"
        for role, parts in load["memory_mb"].items()
    )
    return (
        table(["", "requests", "median, ms", "95 %", "99 %"], rows)
        + f"\n{load['clients']} clients for {load['seconds']:,.0f} s: {load['requests_per_s']:g} requests/s, answers "
        f"other than 200: {', '.join(f'{count} x {status}' for status, count in errors.items()) or 'none'}; "
        f"{load['index']['files_per_s']:g} files/s indexed meanwhile. Resident memory in MB, medians of the second, "
        f"third and last quarter of the time: {memory}. Then killed with `kill -9` {kills['kills']} times while "
        f"{kills['clients']} clients enrolled, named, uploaded and indexed: of {kills['people']:,} people, "
        f"{kills['uploads']:,} uploads and {kills['jobs']} jobs acknowledged {kills['lost']} were lost. "
        f"Pack `{record['pack']}`; the machine's load before was {record['load_before']:g}. {source(record)}.\n"
    )


def web() -> str:
    """The photos page at two sizes: frames by speed, jumps, what it costs."""
    record = result("web")
    sizes = record["sizes"]

    def frames(row: Result) -> str:
        return f"{row['p50']:g} / {row['p95']:g} / {row['max']:g}; {100 * row['late']:.1f} % late"

    rows = [
        [f"scrolling by {step:,} px a frame", *(frames(size[f"{name}_frame_ms"]) for size in sizes)]
        for name, step in record["speeds_px"].items()
    ]
    jumps = [f"{row['p50']:g} / {row['p95']:g} / {row['max']:g}" for row in (size["jump_ms"] for size in sizes)]
    rows += [
        ["jump anywhere, all pictures of the window shown", *jumps],
        ["opened in a new browser, all pictures of the window shown", *(f"{size['open_ms']:,}" for size in sizes)],
        ["elements in the page, the most", *(f"{size['most_elements']:,}" for size in sizes)],
        ["memory of its script at the end, MB", *(f"{size['heap_mb_at_end']:g}" for size in sizes)],
        ["requests refused by the rate limit", *(f"{size['refused']:,}" for size in sizes)],
    ]
    head = ["ms: median / 95 % / longest", *(f"{size['photos']:,} photos" for size in sizes)]
    return table(head, rows) + f"\n{source(record)}; load of other work before: {record['load_before']:g}.\n"


def stream() -> str:
    """Films watched end to end: cost, parts, who was named, numbers lost beside plain IoU tracking."""
    record = result("stream")
    rows = []
    for film in record["films"]:
        width, height = film["size"]
        parts, cpu = film["cpu_ms_of"], film["cpu_ms_per_frame"]
        shares = (f"{100 * parts[name] / cpu:.0f} %" for name in ("detector", "embeddings, quality", "decoding"))
        switches = f"{film['ours']['switches']} / {film['plain']['switches']}"
        idf1 = f"{film['ours']['idf1']:.3f} / {film['plain']['idf1']:.3f}"
        named = f"{film['named']} of {film['in_gallery']}, {film['named_wrongly']} wrongly"
        rows.append([f"{width} x {height}", str(film["faces"]), f"{cpu:.1f}", *shares, named, switches, idf1])
    clock = [f"{film['frames_per_s']:g} (load {film['load']:g})" for film in record["films"]]
    head = [
        "size",
        "faces",
        "ms of processor a frame",
        "detector",
        "faces looked at",
        "decoding",
        "named",
        "ID switches, ours / plain IoU",
        "IDF1",
    ]
    return (
        table(head, rows)
        + f"\nPack `{record['pack']}`, {record['frames']} frames each. Processor time is over all threads. Frames "
        "a second by the clock, in the order of the rows, while the machine had "
        f"other work (load: processes that wanted its {record['machine']['cores']} cores): {', '.join(clock)}. "
        f"{source(record)}.\n"
    )


def stream_crowds() -> str:
    """The tracker alone."""
    record = result("stream")
    rows = [
        [
            str(row["tracks"]),
            f"{row['fps']:g}",
            f"{row['ms']:.1f}",
            f"{row['switches']:,.0f} / {row['plain_switches']:,.0f}",
            f"{row['idf1']:.3f} / {row['plain_idf1']:.3f}",
        ]
        for row in record["crowds"]
    ]
    head = ["faces", "frames a second", "ms a frame", "ID switches in 20 s, ours / plain IoU", "IDF1"]
    return table(head, rows) + f"\nMedians of five crowds. {source(record)}.\n"


def _rates(rate: Result) -> str:
    if rate["rate"] is None:
        return "-"
    return f"{rate['rate'] * 100:.0f} % ({rate['low'] * 100:.0f} to {rate['high'] * 100:.0f})"


def _estimated(estimate: Result) -> str:
    return f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"


def liveness() -> str:
    """What each system calls an attack and what it takes for live; the limits of the measurement."""
    record = result("liveness")
    systems = record["systems"]
    first = next(iter(systems.values()))
    rows = [
        [f"called an attack: {kind}", *(_rates(system["bpcer"][kind]) for system in systems.values())]
        for kind in first["bpcer"]
    ]
    rows += [
        [f"taken for live: {kind}", *(_rates(system["apcer"][kind]) for system in systems.values())]
        for kind in first["apcer"]
    ]
    rows.append(
        ["mean of both errors, worst attack", *(_estimated(system["acer_worst_attack"]) for system in systems.values())]
    )
    rows += [
        [f"area under the ROC: {kind}", *(_estimated(system["auc"][kind]) for system in systems.values())]
        for kind in first["auc"]
    ]
    counts = record["not_found_or_too_small"]["cfp"]
    lost = ", ".join(f"{kind}: {count}" for kind, count in counts.items()) or "none"
    times = "; ".join(
        f"{name} {low:.0f} / {middle:.0f} / {high:.0f} ms a face"
        for name, (low, middle, high) in record["milliseconds_a_face"].items()
    )
    absent = "".join(f" Not measured, as its source could not be reached: {name}." for name in record["absent"])
    return (
        table(["", *systems], rows)
        + f"\n{record['people']['measured']} people of CFP, one photo each, other people than the "
        f"{record['people']['threshold']} that set the thresholds; in brackets 95 % intervals (shares: Wilson's; the "
        f"rest: by drawing people anew). Faces not found or below {record['min_face_px']} px, left out: {lost}. Time, "
        f"quartiles, one thread of a busy machine: {times}.{absent} {source(record)}.\n"
    )


def liveness_sizes() -> str:
    """The same by the size of the face, and on photos of another source."""
    record = result("liveness")
    name = next(iter(record["milliseconds_a_face"]))
    system = record["systems"][name]
    groups = {**{f"CFP, {size}": errors for size, errors in system["by_size"].items()}, "celeb5": system["celeb5"]}
    kinds = [("bpcer", "camera alone"), ("bpcer", "photo as it is"), *(("apcer", kind) for kind in system["auc"])]
    head = [
        "called an attack: camera alone",
        "called an attack: photo as it is",
        *(f"taken for live: {k}" for k in system["auc"]),
    ]
    rows = [
        [group, *(_rates(errors[error][kind]) for error, kind in kinds), str(errors["bpcer"]["camera alone"]["photos"])]
        for group, errors in groups.items()
    ]
    return table(["", *head, "photos"], rows) + f"\n{name}, at the threshold of the table above.\n"


TABLES = {
    "stream": stream,
    "stream_crowds": stream_crowds,
    "serve_load": serve_load,
    "web": web,
    "grounding": grounding,
    "miniwob_oracles": miniwob_oracles,
    "miniwob_speed": miniwob_speed,
    "screens": screens,
    "screens_chromium": screens_chromium,
    "agent_recall": agent_recall,
    "agent_times": agent_times,
    "actions_cases": actions_cases,
    "actions_fuzz": actions_fuzz,
    "soft_ranks": soft_ranks,
    "blocks": blocks,
    "metrics": metrics,
    "metrics_times": metrics_times,
    "activations_facts": activations_facts,
    "activations_tails": activations_tails,
    "activations_times": activations_times,
    "accuracy": accuracy,
    "adapting": adapting,
    "approximation_averages": approximation_averages,
    "approximation_medians": approximation_medians,
    "approximation_minima": approximation_minima,
    "approximation_streams": approximation_streams,
    "attention": attention,
    "attention_accuracy": attention_accuracy,
    "bias": bias,
    "classes": classes,
    "encryption": encryption,
    "estimators_digits": estimators_digits,
    "estimators_polynomial": estimators_polynomial,
    "estimators_speed": estimators_speed,
    "liveness": liveness,
    "liveness_sizes": liveness_sizes,
    "process": process,
    "receptive": receptive,
    "scale": scale,
    "speed": speed,
    "store": store,
    "training": training,
    "upsampling": upsampling,
}


def main() -> None:
    """Write, or check."""
    stale = []
    for page in PAGES:
        text = page.read_text()
        fresh = BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]]()}{block[3]}", text)
        if fresh != text:
            stale.append(page)
            if "--check" not in sys.argv:
                page.write_text(fresh)
    for page in stale:
        print(page.relative_to(ROOT))
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
