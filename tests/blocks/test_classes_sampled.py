"""Class sampling: what it keeps, what it claims to be right on average, and that rows left out do not move."""

import copy
import itertools
import math

import pytest
import torch
from torch.nn.functional import normalize

from tests.blocks.test_classes import D, assert_same, dense_loss, draw, make
from visavis.blocks import margins
from visavis.blocks.classes import ClassSoftmax, SparseSGD
from visavis.errors import InputError


def rows_of(gradient):
    return gradient.coalesce().indices()[0]


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.99])
def test_positives_are_always_among_the_sampled(rate):
    head = make(200, sample_rate=rate)
    for seed in range(20):
        features, labels = draw(9, 200, seed=seed)
        (gradient,) = torch.autograd.grad(head(features, labels), head.weight)
        rows, positives = rows_of(gradient), labels.unique()
        assert torch.isin(positives, rows).all()
        assert len(rows) == len(positives) + math.ceil(rate * (200 - len(positives)))
        assert gradient.is_coalesced()


def test_every_other_class_is_drawn_equally_often():
    head = make(40, sample_rate=0.25)
    labels = torch.tensor([0, 39, 7, 7])
    torch.manual_seed(0)
    trials, seen = 4000, torch.zeros(40)
    for _ in range(trials):
        chosen, log_weights = head._sample(labels)
        seen[chosen] += 1
    others = [c for c in range(40) if c not in (0, 7, 39)]
    share = 10 / 37  # ceil(0.25 * 37) of 37
    assert (seen[[0, 7, 39]] == trials).all()
    # five standard deviations; among 37 classes one in 50,000 runs would fail by chance
    assert ((seen[others] / trials - share).abs() < 5 * math.sqrt(share * (1 - share) / trials)).all()
    assert log_weights.exp().max().item() == pytest.approx(1 / share)
    assert log_weights[torch.isin(chosen, labels)].eq(0).all()


@pytest.mark.parametrize("margin", [None, margins.ArcFace(), margins.CurricularFace()], ids=str)
def test_sums_over_classes_are_right_on_average(margin, monkeypatch):
    """By enumeration of every possible draw, not by chance: the mean of e^(loss of sample n) is the full softmax's.

    With one sample, ``e^loss = (e^true + sum of the others) / e^true`` is linear in what is drawn.
    """
    classes, rate = 6, 0.4
    head = make(classes, margin=margin, sample_rate=rate, scale=3.0)
    features, labels = draw(1, classes, seed=4)
    others = [c for c in range(classes) if c != labels.item()]
    values = []
    for drawn in itertools.combinations(others, math.ceil(rate * len(others))):
        first = [*drawn, labels.item(), *(c for c in others if c not in drawn)]
        monkeypatch.setattr(torch, "randperm", lambda n, first=first, **_: torch.tensor(first[:n]))
        values.append(copy.deepcopy(head)(features, labels).exp().item())
    assert len(values) == math.comb(5, 2)
    wanted = copy.deepcopy(head).eval()
    if margin is not None and margin.changes_others:
        wanted.margin.observe(normalize(features) @ normalize(head.weight[labels]).T[:, 0], features.norm(dim=1))
    assert sum(values) / len(values) == pytest.approx(dense_loss(wanted, features, labels).exp().item(), rel=1e-9)
    assert max(values) - min(values) > 0.01 * max(values)  # the draws do differ


@pytest.mark.parametrize("options", [{}, {"margin": margins.CurricularFace()}, {"subcenters": 2}], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sampled_loss_is_the_dense_one_of_weighted_classes(options, smoothing):
    head = make(30, sample_rate=0.3, label_smoothing=smoothing, **copy.deepcopy(options))
    features, labels = draw(7, 30)
    torch.manual_seed(5)
    loss = head(features, labels)
    found = torch.autograd.grad(loss, (features, head.weight))
    torch.manual_seed(5)
    chosen, log_weights = head._sample(labels)

    subcenters = head.subcenters
    weight = head.weight.detach().requires_grad_()
    cosines = (normalize(features) @ normalize(weight).T).view(7, 30, subcenters).amax(2)
    margin = head.margin or margins.NormFace()
    logits = margin.eval()(cosines, labels, features.norm(dim=1), scale=head.scale)  # observed above
    counts = torch.full((30,), -torch.inf, dtype=logits.dtype).index_put((chosen,), log_weights.to(logits.dtype))
    log_sum = (logits + counts).logsumexp(1)
    true = logits.gather(1, labels[:, None])[:, 0]
    mean = (logits * counts.exp()).sum(1) / 30
    wanted = (log_sum - (1 - smoothing) * true - smoothing * mean).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    of_features, of_weight = torch.autograd.grad(wanted, (features, weight))
    assert_same((found[0], found[1].to_dense()), (of_features, of_weight))


def test_all_classes_of_a_batch_are_its_own():
    head = make(3, sample_rate=0.5)
    features, _ = draw(3, 3)
    loss = head(features, torch.tensor([0, 1, 2]))
    assert loss.isfinite()
    torch.testing.assert_close(loss, dense_loss(head, features, torch.tensor([0, 1, 2])))


OPTIMIZERS = {
    "SparseSGD": lambda p: SparseSGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "SparseAdam": lambda p: torch.optim.SparseAdam(p, lr=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_left_out_stay_bit_for_bit_and_so_does_their_state(name):
    head = make(100, sample_rate=0.1, margin=margins.ArcFace(), scale=4.0, dtype=torch.float32)
    optimizer = OPTIMIZERS[name]([head.weight])
    moved = torch.zeros(100, dtype=torch.bool)
    for seed in range(4):
        before = head.weight.detach().clone()
        state = {k: v.clone() for k, v in optimizer.state[head.weight].items() if torch.is_tensor(v)}
        head(*draw(5, 100, seed=seed, dtype=torch.float32)).backward()
        rows = torch.zeros(100, dtype=torch.bool)
        rows[rows_of(head.weight.grad)] = True
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(head.weight[~rows], before[~rows])
        assert (head.weight[rows] != before[rows]).any(1).all()
        for key, old in state.items():
            if old.shape == before.shape:
                assert torch.equal(optimizer.state[head.weight][key][~rows], old[~rows])
        moved |= rows
    assert moved.any()
    assert not moved.all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_dense_gradients_are_those_of_sgd(momentum, decay):
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 12).view(4, 3)) for _ in range(2))
    mine = SparseSGD([ours], lr=0.3, momentum=momentum, weight_decay=decay)
    other = torch.optim.SGD([theirs], lr=0.3, momentum=momentum, weight_decay=decay)
    for seed in range(5):
        gradient = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
        if seed % 2:  # a sparse gradient of all rows, one of them in two parts, is the same
            rows = torch.tensor([[2, 0, 1, 3, 0]])
            values = torch.stack([gradient[2], gradient[0] * 0.25, gradient[1], gradient[3], gradient[0] * 0.75])
            ours.grad = torch.sparse_coo_tensor(rows, values, (4, 3), check_invariants=True)
        else:
            ours.grad = gradient.clone()
        theirs.grad = gradient.clone()
        mine.step()
        other.step()
        torch.testing.assert_close(ours, theirs)


def test_momentum_of_a_row_is_that_of_its_own_steps():
    """Closed form: a row with gradient 1 in steps 1 and 3 moves by 1 and by 1.5, and not in between."""
    weight = torch.nn.Parameter(torch.zeros(2, 1))
    optimizer = SparseSGD([weight], lr=1.0, momentum=0.5)
    path = []
    for row in (0, 1, 0):
        weight.grad = torch.sparse_coo_tensor([[row]], [[1.0]], (2, 1), check_invariants=True)
        optimizer.step()
        path.append(weight[0].item())
    assert path == [-1.0, -1.0, -2.5]


def test_gradients_accumulate_and_network_and_head_share_an_optimizer():
    network = torch.nn.Linear(D, D).double()
    head = make(100, sample_rate=0.1)
    optimizer = SparseSGD([*network.parameters(), head.weight], lr=0.1)
    for seed in range(2):
        features, labels = draw(5, 100, seed=seed)
        head(network(features.detach()), labels).backward()
    assert head.weight.grad.is_sparse
    before = head.weight.detach().clone()
    optimizer.step(lambda: 0.0)
    assert not torch.equal(head.weight, before)


def test_learning_with_a_tenth_of_the_classes_tells_them_apart():
    torch.manual_seed(0)
    centres = normalize(torch.randn(60, D))
    network, head = torch.nn.Linear(D, D), ClassSoftmax(D, 60, margin=margins.CosFace(0.1), scale=16.0, sample_rate=0.1)
    optimizer = SparseSGD([*network.parameters(), *head.parameters()], lr=0.05)
    for _ in range(150):
        labels = torch.randint(60, (32,))
        loss = head(network(centres[labels] + 0.05 * torch.randn(32, D)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    guesses = (normalize(network(centres)) @ normalize(head.weight).T).argmax(1)
    assert (guesses == torch.arange(60)).float().mean() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr: expected a rate of at least 0, got -1.0"),
        ({"lr": math.nan}, "lr"),
        ({"lr": 0.1, "momentum": 1.0}, r"momentum: expected a share in \[0, 1\), got 1.0"),
        ({"lr": 0.1, "weight_decay": -0.1}, "weight_decay: expected at least 0, got -0.1"),
    ],
)
def test_optimizer_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SparseSGD([torch.nn.Parameter(torch.zeros(1))], **options)
