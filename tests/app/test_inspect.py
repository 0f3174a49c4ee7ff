"""``visavis inspect`` against published numbers of networks, and against sums made by hand."""

import json
import os
import re
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.zoo import timm, torchvision
from visavis.app import inspection_page
from visavis.app.cli import main
from visavis.app.inspecting import Inspection, examine
from visavis.app.networks import load
from visavis.errors import InputError, MissingExtraError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(capsys):
    """Runs ``visavis inspect ...``; the exit code with what was printed."""

    def call(*arguments):
        code = main(["inspect", *map(str, arguments)])
        seen = capsys.readouterr()
        if "--json" in arguments:
            return code, json.loads(seen.out)
        return code, seen.err if code in (2, 3) else seen.out

    return call


@pytest.fixture
def file(tmp_path):
    """Writes a module of the user's; its path."""

    def write(text, name="net.py"):
        path = tmp_path / name
        path.write_text("import torch\nfrom torch import nn\n" + text)
        return path

    yield write
    sys.modules.pop("net", None)


@pytest.fixture(scope="module")
def resnet50():
    return examine(torchvision.models.resnet50(), (3, 224, 224), prove=False)


@pytest.fixture(scope="module")
def vit():
    return examine(timm.create_model("vit_tiny_patch16_224", depth=2), (3, 224, 224))


def kinds(found: Inspection) -> dict[str, str]:
    return {finding.kind: finding.text for finding in found.findings if finding.level == "mend"}


def row(found: Inspection, name: str):
    return next(row for row in found.rows if row.name == name)


def test_resnet50_has_the_published_numbers(resnet50):
    assert resnet50.total.parameters == 25_557_032
    assert resnet50.total.flops == 2 * 4_089_184_256
    assert row(resnet50, "layer4").field == (427, 427)
    assert row(resnet50, "layer4").stride == (32, 32)
    assert resnet50.total.field == (None, None)
    assert row(resnet50, "layer1.0.conv2").shape == (1, 64, 56, 56)


@pytest.mark.parametrize("depth", [1, 2, 3, 9])
def test_what_is_shown_is_everything(resnet50, vit, depth):
    rows = resnet50.shown(depth)
    assert sum(row.parameters for row in rows) == resnet50.total.parameters
    assert sum(row.flops for row in rows) == resnet50.total.flops
    assert sum(row.parameters for row in vit.shown(depth)) == vit.total.parameters  # those of no layer too
    assert sum(row.flops for row in vit.shown(depth)) == vit.total.flops


def test_depth_that_fits(resnet50):
    assert [row.name for row in resnet50.shown(1)][:4] == ["conv1", "bn1", "relu", "maxpool"]
    assert len(resnet50.shown(resnet50.depth_for(40))) <= 40 < len(resnet50.shown(resnet50.depth_for(40) + 1))


def test_flops_of_a_vision_transformer_by_hand(vit):
    tokens, width = 197, 192
    block = tokens * 12 * width**2 + 2 * tokens**2 * width  # qkv, projection, two of the MLP; scores and their use
    assert vit.total.flops == 2 * (196 * width * 3 * 16**2 + 2 * block + width * 1000)
    assert [(each.places, each.keys, each.features) for each in vit.attentions] == [(197, 197, 64)] * 2


def test_saved_for_backward_is_what_autograd_keeps():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    found = examine(model, (3, 16, 16))
    plane = 8 * 16 * 16 * 4
    mean_and_scale = 2 * 8 * 4 / 2  # of the batch of two
    assert [row(found, name).saved_bytes for name in "0123"] == [
        *(3 * 16 * 16 * 4, plane + mean_and_scale, plane, plane * 2 / 4)  # an index has 8 bytes, for 4 values
    ]
    assert [row(found, name).activation_bytes for name in "0123"] == [plane, plane, 0, plane / 4 + plane * 2 / 4]


def test_saved_bytes_are_those_of_a_real_run():
    model = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32, num_classes=10)
    model.patch_embed.norm, model.pos_drop = nn.SiLU(inplace=True), nn.Dropout(0.5)
    found = examine(model, (3, 32, 32), prove=False)
    storages = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept = []

    def pack(tensor):
        if tensor.untyped_storage()._cdata not in storages:
            storages.add(tensor.untyped_storage()._cdata)
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model.train()(torch.randn(2, 3, 32, 32))
    assert found.total.saved_bytes == sum(tensor.untyped_storage().nbytes() for tensor in kept) // 2
    assert output.requires_grad


def test_biases_that_do_nothing_and_norms_that_fold():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1))
    found = examine(model, (3, 5, 5))
    assert kinds(found)["bias"].startswith("1 bias does nothing (8 parameters): 0.bias; the first is subtracted with ")
    assert kinds(found)["norm"].startswith("1 of 1 norm or scale can be folded into other layers")
    assert [row.marks for row in found.rows] == [{"bias": 1, "norm": 1}, {"bias": 1}, {"norm": 1}, {}, {}, {}]
    assert not kinds(examine(model, (3, 5, 5), prove=False))


def test_the_key_bias_of_a_vision_transformer(vit):
    assert kinds(vit)["bias"].startswith("2 biases do nothing (384 parameters): blocks.0.attn.qkv.bias[192:384], ")


def test_what_cannot_be_proved_is_told(file, run):
    path = file(
        "class Net(nn.Conv2d):\n    def forward(self, x):\n        return super().forward(x.view(1, 3, 8, 8))\n"
    )
    arguments = ("--input", "3x8x8", "--arg", "in_channels=3", "--arg", "out_channels=4", "--arg", "kernel_size=3")
    code, text = run(f"{path}:Net", *arguments)
    assert code == 0
    assert "unknown: biases were not looked at: InputError: " in text
    assert "unknown: norms were not looked at: InputError: " in text
    assert "unknown: memory for training is unknown, as a training step fails: RuntimeError in the network: " in text
    assert "unknown: " not in run("torch.nn:Conv2d", *arguments, "--quick")[1]


def test_a_network_is_left_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    examine(model, (3, 16, 16))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model[0]._forward_hooks


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "even"),
    [
        *((2, 2, 1, True), (4, 2, 1, True), (3, 2, 1, False), (5, 3, 1, False)),
        *((3, 1, 1, True), (2, 2, 2, False), (3, 3, 2, True), (1, 2, 1, False)),
    ],
)
def test_checkerboards_are_those_that_a_constant_shows(kernel, stride, dilation, even):
    model = nn.ConvTranspose2d(1, 1, kernel, stride, dilation=dilation, bias=False)
    nn.init.ones_(model.weight)
    middle = model(torch.ones(1, 1, 20, 20))[0, 0, 6:-6, 6:-6]
    assert bool((middle == middle[0, 0]).all()) == even
    found = examine(nn.Sequential(model), (1, 12, 12))
    assert ("checkerboard" not in kinds(found)) == even
    assert ("checkerboard" not in row(found, "0").marks) == even


def test_a_last_stage_that_sees_too_little():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert kinds(examine(model, (3, 32, 16))) == {"field": "the last stage sees only 5 of 32 x 5 of 16 px: 1"}
    assert not kinds(examine(model, (3, 5, 5)))
    assert kinds(examine(model, (3, 5, 16))) == {"field": "the last stage sees only 5 of 16 px: 1"}
    mixed = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.Conv2d(8, 8, 3))
    assert not kinds(examine(mixed, (3, 32, 32), prove=False))


def test_the_first_layer_that_sees_all():
    found = examine(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)), (3, 5, 5))
    assert "1 is the first layer to see all of 5x5 px" in [finding.text for finding in found.findings]


class Attends(nn.Module):
    def __init__(self, by_hand, heads=2, width=64):
        super().__init__()
        self.make = nn.Conv2d(3, width, 1)
        self.by_hand, self.heads = by_hand, heads

    def forward(self, x):
        x = self.make(x).flatten(2).unflatten(1, (self.heads, -1)).mT
        if not self.by_hand:
            return F.scaled_dot_product_attention(x, x, x)
        scores = (torch.zeros(1, device=x.device) + x @ x.mT / 8).masked_fill(torch.ones(1, dtype=torch.bool), 0.0)
        return scores.softmax(-1) @ x


@pytest.mark.parametrize("by_hand", [False, True])
def test_quadratic_attention_and_from_where_the_linear_form_pays(by_hand):
    short, long = (examine(Attends(by_hand), (3, side, side)) for side in (12, 16))
    assert [(each.places, each.keys, each.features) for each in long.attentions] == [(256, 256, 32)]
    assert kinds(long)["attention"].startswith("1 attention with cost quadratic in 256 places")
    assert "attention" not in kinds(short)
    assert any("the linear one pays from about 256 on" in finding.text for finding in short.findings)
    assert examine(Attends(by_hand, heads=1, width=128), (3, 16, 16)).attentions[0].pays_from == 512


def test_softmax_over_channels_is_no_attention():
    assert not examine(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Softmax(-1)), (3, 8, 8)).attentions


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.aux = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 1, 1))

    def forward(self, x):
        x = self.body(x)
        return (x, self.aux(x)) if self.training else x


def test_parameters_that_nothing_reads():
    found = examine(Auxiliary(), (3, 8, 8))
    assert "5 parameters do nothing outside of training: aux" in [each.text for each in found.findings]
    assert [(row.name, row.calls) for row in found.rows] == [("", 1), ("body", 1), ("aux", 0), ("aux.0", 0)]


def test_modules_used_twice_and_lists_of_modules_in_order_of_execution(file, run):
    path = file(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.b = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)])\n"
        "        self.a, self.act = nn.Conv2d(3, 3, 1), nn.ReLU()\n"
        "    def forward(self, x):\n"
        "        return self.b[1](self.act(self.b[0](self.act(self.a(x)))))\n"
    )
    code, value = run(f"{path}:Net", "--input", "3x8x8", "--json")
    assert code == 0
    rows = {row["name"]: row for row in value["rows"]}
    assert list(rows) == ["", "a", "act", "b", "b.0", "b.1"]
    assert rows["act"]["calls"] == 2


def test_the_answer_as_json(run):
    code, value = run("torchvision.models:resnet18", "--json", "--quick")
    assert code == 0
    assert set(value) == {"model", "input_shape", "findings", "rows", "attentions"}
    assert value["input_shape"] == [3, 224, 224]
    for finding in value["findings"]:
        assert set(finding) == {"kind", "level", "text", "layers"}
    total = value["rows"][0]
    assert (total["name"], total["parameters"], total["field"]) == ("", 11_689_512, [None, None])
    assert set(total) == {
        *("name", "kind", "depth", "calls", "leaf", "shape", "parameters", "flops", "activation_bytes"),
        *("saved_bytes", "field", "stride", "own", "marks"),
    }


def test_findings_come_before_the_table(run):
    code, text = run("timm:resnet18", "--depth", "1", "--quick")
    lines = text.splitlines()
    assert code == 0
    assert lines[0].startswith("timm:resnet18 on 3x224x224: 11.7 M parameters, 3.63 GFLOPs, ")
    assert lines[2].startswith("know: ")
    table = lines[lines.index("", 2) + 1 :]
    assert table[0].split() == ["layer", "kind", "output", "parameters", "FLOPs", "activations", "saved", "field"]
    assert [line.split()[0] for line in table[1:]] == [
        *("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4", "global_pool", "fc", "all")
    ]


def test_what_a_module_computes_beside_those_inside_it_is_marked_too():
    found = examine(nn.Sequential(Attends(by_hand=False)), (3, 16, 16), prove=False)
    assert row(found, "0").own.marks == {"attention": 1}
    assert {each.name: each.marks for each in found.shown(2)} == {"0 itself": {"attention": 1}, "0.make": {}}


def test_a_page_that_holds_everything_and_obeys_no_name(file, run, tmp_path):
    path = file(
        "def make():\n"
        "    net = nn.Sequential()\n"
        "    net.add_module('<script>alert(1)</script>', nn.ConvTranspose2d(3, 4, 3, 2))\n"
        "    return net\n"
    )
    page = tmp_path / "page.html"
    code, text = run(f"{path}:make", "--input", "3x8x8", "--html", page)
    assert code == 0
    assert f"page: {page}" in text
    html = page.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert html.count("<svg") == 4
    assert html.index("checkerboard") < html.index("<table>")
    assert not re.search(r"(src|href)\s*=|url\(|https?:", html)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_page_has_the_rights_of_any_new_file(run, tmp_path, umask, mode):
    page, before = tmp_path / "page.html", os.umask(umask)
    try:
        code, _ = run("torch.nn:Identity", "--input", "3x8x8", "--html", page)
    finally:
        os.umask(before)
    assert (code, page.stat().st_mode & 0o777) == (0, mode)


def test_a_page_that_cannot_be_made_leaves_the_old_one(run, tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    page.write_text("old")

    def fail(found):
        raise ZeroDivisionError(found.model)

    monkeypatch.setattr(inspection_page, "_charts", fail)
    with pytest.raises(ZeroDivisionError):
        run("torch.nn:Identity", "--html", page)
    assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize("shape", ["3x0x8", "224", "3,224,224", "3x224x", "1x3x224x224x9x9", "-3x8x8"])
def test_an_input_that_is_no_shape(run, shape):
    code, text = run("torch.nn:Identity", f"--input={shape}")
    assert code == 2
    assert "expected channels and one to three sizes, each at least 1, as 3x224x224" in re.sub(r"\s+", " ", text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "model: expected module:factory, file.py:factory or timm:name"),
        ("no_such_module:make", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("missing.py:make", "model: expected a Python file, got 'missing.py', which is none"),
        ("torchvision.models:resnet81", "'resnet81', which it has not; near it are resnet18"),
        ("timm:resnet_50", "model: expected the name of a model of timm, got 'resnet_50'; near it are resnet50"),
        ("torch.nn:Linear", "model: expected torch.nn:Linear to build a network, got TypeError: "),
        ("json:dumps", "to build a network, got TypeError"),
        ("math:pi", "expected math:pi to be a class or function, got float"),
        ("builtins:dict", "to give a torch.nn.Module, got dict"),
    ],
)
def test_a_name_that_gives_no_network(run, name, message):
    code, text = run(name)
    assert code == 3
    assert message in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name\n", "No module named 'nothing_of_that_name' at "),
        ("1 / 0\n", "ZeroDivisionError: division by zero at "),
        ("raise SystemExit(0)\n", "SystemExit: 0 at "),
        ("def broken(:\n", "SyntaxError: "),
    ],
)
def test_a_file_that_does_not_import_says_where(file, run, text, message, tmp_path):
    code, seen = run(f"{file(text)}:make", "--html", tmp_path / "page.html")
    assert code == 3
    assert message in seen
    assert "net.py" in seen
    assert not (tmp_path / "page.html").exists()


def test_control_flow_that_looks_at_numbers_says_what_was_not_traced(file, run):
    path = file(
        "class Gate(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x if x.sum() > 0 else -x\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), Gate())\n"
    )
    code, text = run(f"{path}:make", "--input", "3x8x8", "--json")
    assert code == 3
    assert re.search(
        r"looking at its input's numbers, got .* in 1 \(Gate\); nothing from there on was traced", str(text)
    )


def test_an_input_that_the_network_does_not_take(run):
    code, text = run("torchvision.models:resnet18", "--input", "1x224x224")
    assert code == 3
    assert re.search(r"expected a network that runs on \[1, 1, 224, 224\], got RuntimeError in conv1 \(Conv2d\)", text)


def test_a_network_that_does_not_train_is_told_all_else(file, run):
    path = file("class Net(nn.Conv2d):\n    def forward(self, x):\n        assert not self.training, 'not now'\n"
                "        return super().forward(x)\n")  # fmt: skip
    code, value = run(f"{path}:Net", "--input", "3x8x8", "--json", *(f"--arg={each}" for each in
                      ("in_channels=3", "out_channels=4", "kernel_size=(3, 1)")))  # fmt: skip
    assert code == 0
    assert value["rows"][0]["saved_bytes"] is None
    assert value["rows"][0]["parameters"] == 4 * 3 * 3 + 4
    assert "a training step fails: AssertionError in the network: not now" in value["findings"][0]["text"] or any(
        "AssertionError" in finding["text"] for finding in value["findings"]
    )


def test_what_a_module_prints_is_not_the_answer(file, run):
    path = file("print('hello')\nnet = nn.Conv2d(3, 4, 3)\n")
    code, value = run(f"{path}:net", "--input", "3x8x8", "--json")
    assert (code, value["rows"][0]["kind"]) == (0, "Conv2d")


def test_modules_beside_the_current_folder_are_found(file, run, monkeypatch):
    path = file("def make():\n    return nn.Conv1d(3, 4, 5)\n")
    monkeypatch.chdir(path.parent)
    code, value = run("net:make", "--input", "3x20", "--json")
    assert (code, value["rows"][0]["field"]) == (0, [5])


@pytest.mark.parametrize("name", ["timm:resnet50", "torchvision.models:resnet18"])
def test_a_library_that_is_not_installed(monkeypatch, name):
    package = name.partition(":")[0].partition(".")[0]
    for module in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)

    class Nothing:
        def find_spec(self, wanted, path=None, target=None):  # noqa: ARG002
            if wanted.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    monkeypatch.setattr(sys, "meta_path", [Nothing(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=f"{package}: expected it to be installed, .*; pip install {package}$"):
        load(name)


@pytest.mark.parametrize("text", ["width", "1x=3", "=3"])
def test_arguments_that_are_none(text):
    with pytest.raises(InputError, match="arg: expected key=value, as width=64, got "):
        load_with(text)


def load_with(text):
    from visavis.app.networks import parse_arguments

    return parse_arguments([text])


def test_a_page_needs_a_folder(run, tmp_path):
    code, text = run("torch.nn:Identity", "--html", tmp_path / "no" / "page.html")
    assert code == 3
    assert "html: expected a file in a folder that exists" in text
