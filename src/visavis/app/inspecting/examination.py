"""`examine`, which puts costs and findings together."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from visavis.app.inspecting import _costs, _findings
from visavis.app.inspecting._runs import example
from visavis.app.inspecting.records import Finding, Inspection
from visavis.blocks import receptive
from visavis.blocks._trace import trace

__all__ = ["examine"]


def examine(model: nn.Module, input_shape: tuple[int, ...], *, name: str = "", prove: bool = True) -> Inspection:
    """What a network costs and sees, and what of it does nothing.

    Args:
        model: any network of one image; it and its modes are left as they are.
        input_shape: (C, length), (C, H, W) or (C, D, H, W), without the batch.
        name: of the network, for the report.
        prove: look for redundant biases and foldable norms too, which runs the network on random numbers a few times.

    Raises:
        InputError: the network does not run on this shape, or looks at its input's numbers; names the layer.

    >>> found = examine(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 1, 3, stride=2)), (3, 8, 8))
    >>> found.total.parameters, found.total.flops, found.total.field
    (149, 10368, (4, 4))
    >>> found.findings[0].kind
    'checkerboard'
    """
    with _modes_kept(model):
        fields = receptive.fields(model, input_shape)
        model.eval()
        graph = trace(model, example(model, (1, *input_shape)))
        saved, refused = _costs.saved_bytes(model, input_shape)
        biases: list[Finding] = []
        norms: list[Finding] = []
        if prove:
            biases = _findings.redundant_biases(model, input_shape)
            norms = _findings.foldable_norms(model, input_shape)
    attentions = _findings.quadratic_attentions(graph)
    findings = [
        *biases,
        *_findings.checkerboards(graph),
        *_findings.narrow_fields(fields),
        *_findings.quadratic(attentions),
        *norms,
        *_findings.idle_parameters(model, graph),
        *_findings.refused_training(saved, refused),
        *(Finding("assumed", "unknown", note) for note in fields.notes),
    ]
    rows = _costs.module_rows(model, graph, fields, saved, findings)
    order = ("mend", "unknown", "know")
    findings = sorted([*findings, *_findings.heaviest(rows)], key=lambda finding: order.index(finding.level))
    return Inspection(name or type(model).__name__, tuple(input_shape), tuple(findings), rows, attentions)


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
