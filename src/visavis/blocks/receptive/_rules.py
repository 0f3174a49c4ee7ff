"""How each operation moves the fields of its inputs to its outputs.

A rule is a function from a `Step` to the field of the outputs; `RULES` names them by operation, in place or not. An
operation without a rule is taken to read the whole of its inputs, and the step says so.
"""

import torch

from visavis.blocks.receptive import _mixing as mixing
from visavis.blocks.receptive import _moves as moves
from visavis.blocks.receptive._step import Rule, Step, anywhere, base_name, unknown

__all__ = ["RULES", "apply"]

_OF: dict[Rule, str] = {
    mixing.pointwise: "hardswish hardtanh _prelu_kernel rrelu_with_noise _to_copy alias detach lift_fresh complex "
    "_conj native_dropout",
    mixing.reduction: "mean sum prod amax amin argmax argmin max min any all norm linalg_vector_norm logsumexp "
    "var std var_mean std_mean",
    mixing.along: "_softmax _log_softmax _safe_softmax sort topk",
    mixing.cumulative: "cumsum cumprod logcumsumexp cummax cummin",
    mixing.convolution: "convolution",
    mixing.pool: "max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d",
    mixing.adaptive_pool: "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d",
    mixing.fractional_pool: "fractional_max_pool2d fractional_max_pool3d",
    mixing.upsample: "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d "
    "upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa",
    mixing.batch_norm: "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "_batch_norm_with_update _batch_norm_no_update cudnn_batch_norm",
    mixing.layer_norm: "native_layer_norm",
    mixing.group_norm: "native_group_norm",
    mixing.product: "mm bmm addmm baddbmm mv dot addmv",
    mixing.attention: "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention",
    mixing.fft: "_fft_r2c _fft_c2r _fft_c2c",
    moves.view: "view _unsafe_view unsqueeze squeeze _reshape_alias",
    moves.permute: "permute transpose t",
    moves.expand: "expand",
    moves.cut: "slice select",
    moves.split: "split split_with_sizes unbind unsafe_split",
    moves.cat: "cat stack",
    moves.pad: "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d",
    moves.moved: "pixel_shuffle pixel_unshuffle channel_shuffle repeat tril triu diagonal",
    moves.index: "index index_select gather take _unsafe_index embedding",
    moves.restrided: "as_strided",
    moves.roll: "roll",
    moves.flip: "flip",
    moves.overlaid: "overlay",
    moves.copied: "copy",
    moves.columns: "im2col",
    moves.folded: "col2im",
    moves.unfolded: "unfold",
    moves.parts: "view_as_real",
    moves.from_parts: "view_as_complex",
    moves.glu: "glu",
    anywhere: "max_unpool2d max_unpool3d grid_sampler_2d grid_sampler_3d",
}
RULES = {name: rule for rule, names in _OF.items() for name in names.split()}


def apply(step: Step) -> None:
    """Add the fields of the node's outputs to `step.known`."""
    node = step.node
    if not any(value in step.known for value in node.reads):
        return
    rule = RULES.get(base_name(node))
    if rule is None and isinstance(node.op, torch._ops.OpOverload):
        if torch.Tag.pointwise in node.op.tags:
            rule = mixing.pointwise
        elif torch.Tag.reduction in node.op.tags:
            rule = mixing.reduction
    found = (rule or unknown)(step)
    outputs = found if isinstance(found, list) else [found] * len(node.outputs)
    for value, reach in zip(node.outputs, outputs, strict=True):
        if reach is not None:
            step.known[value] = reach
