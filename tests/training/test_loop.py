"""One epoch of training: means over photos, gradients of means, and no waiting in a step."""

import math
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from helpers.runs import SIZE, Net, NoHooks, as_the_model_sees, make_run
from helpers.runs import train_one_epoch as train
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.transforms import functional as TF

from pyimagesearch import config
from pyimagesearch.create_dataloaders import GlobalBatchSampler, Shares, get_dataloader
from pyimagesearch.data import transforms
from pyimagesearch.data.labels_csv import UNKNOWN
from pyimagesearch.data.transforms import Mixing, eval_transform, train_transform
from pyimagesearch.evaluation import evaluate
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.models import objectives
from pyimagesearch.models.objectives import BinaryCrossEntropy, CrossEntropy, balanced_weights
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.training import loop
from pyimagesearch.training.loop import NonFiniteLoss, RunningTotals
from pyimagesearch.training.options import resolve, training_options
from pyimagesearch.training.run import LabelMargins

CPU = torch.device("cpu")
ONE = distributed.Launch("none", CPU, 0, 1)


class NotANumberFrom(Net):
    """From its forward pass `step` on, counted from 0, its logits are not numbers."""

    def __init__(self, step: int):
        super().__init__()
        self.step, self.passes = step, 0

    def forward(self, images):
        self.passes += 1
        return super().forward(images) * (math.nan if self.passes > self.step else 1)


def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    images = torch.randn(rows, 3, SIZE, SIZE, generator=generator)
    return images, torch.randint(0, 2, (rows,), generator=generator)


def no_scaler():
    return torch.amp.GradScaler("cpu", enabled=False)


def sgd(model, lr: float = 1.0):
    return torch.optim.SGD(model.parameters(), lr=lr)


# --- a step ----------------------------------------------------------------------------------------------------------


def test_a_step_goes_along_the_gradient_of_the_mean_loss():
    images, labels = batch(5)
    model, reference = Net(), Net()
    F.cross_entropy(reference(images), labels, reduction="mean").backward()
    loss_sum, correct = loop.train_step(model, images, labels, 5, sgd(model), no_scaler())
    logits = reference(images)
    assert torch.allclose(model.weight, reference.weight - reference.weight.grad, atol=1e-6)
    assert torch.allclose(loss_sum, F.cross_entropy(logits, labels, reduction="sum"))
    assert correct == (logits.argmax(1) == labels).sum()
    assert model.weight.grad is None


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_ranks_steps_average_to_that_gradient_with_unequal_and_empty_shares(monkeypatch, world):
    images, labels = batch(4)
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    steps = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        mine = GlobalBatchSampler(4, 4).mine(0, 0)
        model = Net()
        loop.train_step(model, images[mine], labels[mine], 4, sgd(model), no_scaler())
        steps.append(Net().weight - model.weight)
    reference = Net()
    F.cross_entropy(reference(images), labels).backward()
    assert torch.allclose(torch.stack(steps).mean(0), reference.weight.grad, atol=1e-6)


@pytest.mark.parametrize("parts", [2, 3, 4, 5])
def test_a_share_taken_in_parts_gives_the_gradient_of_the_whole(parts):
    images, labels = batch(5)
    whole, accumulated = Net(), Net()
    results = [
        loop.train_step(model, images, labels, 5, sgd(model), no_scaler(), parts=n)
        for model, n in ((whole, 1), (accumulated, parts))
    ]
    assert not torch.equal(whole.weight, Net().weight)
    assert torch.allclose(accumulated.weight, whole.weight, atol=1e-6)
    assert torch.allclose(results[1][0], results[0][0]) and torch.equal(results[1][1], results[0][1])


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size, batch_size, accumulate", [(23, 8, 1), (23, 8, 2), (23, 8, 3), (25, 8, 8), (7, 7, 4)])
def test_no_part_is_empty_on_all_ranks_or_larger_than_the_memory_that_it_saves(
    monkeypatch, world, size, batch_size, accumulate
):
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    sampler, fewest = GlobalBatchSampler(size, batch_size), []
    for step in range(sampler.steps):
        parts = sampler.parts(step, accumulate)
        shares = [
            (rank + 1) * sampler.count(step) // world - rank * sampler.count(step) // world for rank in range(world)
        ]
        rows = [[len(part) for part in torch.empty(share).tensor_split(parts)] for share in shares]
        assert all(sum(together) > 0 for together in zip(*rows, strict=True))
        assert max(map(max, rows)) <= math.ceil(math.ceil(batch_size / accumulate) / world) + (world > 1)
        fewest.append(min(map(min, rows)))
    assert sampler.fewest_rows(accumulate) == min(fewest)


def test_a_longer_gradient_is_scaled_down_to_the_norm_and_a_shorter_one_is_left():
    images, labels = batch(5)
    free = Net()
    loop.train_step(free, images, labels, 5, sgd(free), no_scaler())
    gradient = (Net().weight - free.weight).detach()
    for norm, expected in ((gradient.norm() / 2, gradient / 2), (gradient.norm() * 2, gradient)):
        model = Net()
        loop.train_step(model, images, labels, 5, sgd(model), no_scaler(), parts=2, clip_norm=float(norm))
        assert torch.allclose(Net().weight - model.weight, expected, atol=1e-6)


def test_the_gradient_is_clipped_as_it_is_without_the_loss_scale_of_float16():
    images, labels = batch(5)
    models = Net(), Net()
    for model, scaler in zip(models, (no_scaler(), torch.amp.GradScaler("cpu", init_scale=1024.0)), strict=True):
        loop.train_step(model, images, labels, 5, sgd(model), scaler, clip_norm=0.1)
    assert torch.allclose(models[1].weight, models[0].weight, atol=1e-6)


def test_class_weights_and_smoothing_train_along_torchs_weighted_mean_and_leave_evaluation(photos):
    root = photos({"a": 6, "b": 2})
    data, loader = get_dataloader(root, eval_transform(SIZE), 8, workers=0)
    labels = torch.from_numpy(data.labels)
    images, _ = transforms.to_device(torch.stack([image for image, _ in data]), labels, CPU)
    objective = CrossEntropy(class_weights=balanced_weights(data.labels, 2), label_smoothing=0.1)
    model, reference = Net(), Net()
    weight = torch.tensor(objective.class_weights, dtype=torch.float32)
    F.cross_entropy(reference(images), labels, weight=weight, label_smoothing=0.1).backward()
    train(model, loader, 1.0, objective=objective)
    assert torch.allclose(model.weight, reference.weight - reference.weight.grad, atol=1e-6)
    _, in_order = get_dataloader(root, eval_transform(SIZE), 3, shuffle=False, workers=0)
    plain = evaluate.evaluate(model, in_order)
    assert evaluate.evaluate(model, in_order, objective) == plain


def test_a_step_waits_for_nothing():
    """On the meta device a tensor has no value: to read one there, as .item(), .cpu() or `if` do, is an error."""
    model = Net().to("meta")
    images, labels = torch.empty(4, 3, SIZE, SIZE, device="meta"), torch.empty(4, dtype=torch.int64, device="meta")
    running, loader = RunningTotals(torch.device("meta")), SimpleNamespace(batch_sampler=GlobalBatchSampler(8, 4))
    loader.dataset = SimpleNamespace(labels=np.zeros(8, np.int64))
    margins = LabelMargins(objectives.CROSS_ENTROPY, loader)
    for step in range(2):
        on_device = transforms.to_device(images, labels, torch.device("meta"))
        loss_sum, correct = loop.train_step(
            model, *on_device, 4, sgd(model), no_scaler(), parts=2, clip_norm=1.0, watch=partial(margins.add, 0, step)
        )
        running.add(step, loss_sum, correct, 4)
    with pytest.raises((RuntimeError, NotImplementedError)):
        running.read()


def test_images_reach_the_device_in_the_layout_that_convolutions_like():
    images, labels = transforms.to_device(*batch(2), CPU)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, batch(2)[0]) and torch.equal(labels, batch(2)[1])


def test_a_gpu_copies_a_batch_beside_the_steps_that_wait_for_it(monkeypatch):
    """The order of events, without a GPU."""
    events = MagicMock()
    monkeypatch.setattr(transforms, "_copied", events.copied)
    events.copied.return_value = events.images, events.labels
    monkeypatch.setattr(transforms, "_copy_stream", lambda device: events.copying)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: events.computing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: events.on)
    events.on.__enter__, events.on.__exit__ = events.entered, events.left
    events.left.return_value = False
    cpu, gpu = batch(2), torch.device("cuda")
    assert transforms.to_device(*cpu, gpu) == (events.images, events.labels)
    names = [name for name, _, _ in events.mock_calls]
    assert names == [
        "entered",
        "copied",
        "left",
        "computing.wait_stream",
        "images.record_stream",
        "labels.record_stream",
    ]
    assert events.images.record_stream.call_args.args == (events.computing,)
    assert events.computing.wait_stream.call_args.args == (events.copying,)


def test_pixels_are_normalised_on_the_device_and_what_is_normalised_already_is_left():
    pixels = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    expected = TF.normalize(pixels / 255, config.MEAN, config.STD)
    images, _ = transforms.to_device(pixels, torch.zeros(2), CPU)
    assert images.dtype == torch.float32
    assert torch.allclose(images, expected, atol=1e-6)
    assert torch.equal(transforms.to_device(expected, torch.zeros(2), CPU)[0], expected)


# --- an epoch --------------------------------------------------------------------------------------------------------


def test_the_loss_of_an_epoch_is_the_mean_over_photos_also_with_a_short_last_batch(photos):
    data, loader = get_dataloader(photos({"a": 4, "b": 3}), eval_transform(SIZE), 3, workers=0)
    images, labels = as_the_model_sees(data, range(len(data)))
    logits = Net()(images)
    totals = train(Net(), loader)
    assert totals.mean_loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert totals.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert totals.count == 7


def test_the_short_last_batchs_step_goes_along_the_mean_over_its_own_photos(photos):
    data, loader = get_dataloader(photos({"a": 4, "b": 3}), eval_transform(SIZE), 5, workers=0)
    last = loader.batch_sampler.batch(0, 1)
    images, labels = as_the_model_sees(data, last)
    model, reference = Net(), Net()
    F.cross_entropy(reference(images), labels, reduction="mean").backward()
    train(model, loader, lr=1.0, step=1)
    assert torch.allclose(model.weight, reference.weight - reference.weight.grad, atol=1e-6)


def test_an_epoch_begun_elsewhere_counts_what_was_summed_there(photos):
    root = photos({"a": 4, "b": 3})
    _, loader = get_dataloader(root, eval_transform(SIZE), 3, workers=0)
    whole = train(Net(), loader)
    _, loader = get_dataloader(root, eval_transform(SIZE), 3, workers=0)
    seen = []
    train(Net(), loader, hooks=NoHooks(lambda done, running: seen.append((done, running.read()))))
    rest = train(Net(), loader, step=2, totals=seen[1][1])
    assert [done for done, _ in seen] == [1, 2, 3]
    assert rest == whole


def test_dropout_draws_the_same_in_a_resumed_run_and_anew_in_each_step(photos):
    root = photos({"a": 4, "b": 4})

    def weights(positions) -> list[torch.Tensor]:
        model, found = Net(dropout=0.5), []
        _, loader = get_dataloader(root, eval_transform(SIZE), 4, workers=0)
        for epoch, step in positions:
            torch.rand(step + 1)
            hooks = NoHooks(lambda *_: found.append(model.weight.detach().clone()))
            train(model, loader, 0.1, epoch=epoch, step=step, hooks=hooks)
        return found

    whole = weights([(0, 0)])
    model = Net(dropout=0.5)
    model.weight.data.copy_(whole[0])
    _, loader = get_dataloader(root, eval_transform(SIZE), 4, workers=0)
    train(model, loader, 0.1, step=1)
    assert torch.equal(model.weight, whole[1])
    assert not torch.equal(weights([(0, 0)])[0], weights([(1, 0)])[0])


def test_two_runs_of_a_seed_give_the_same_weights_bit_for_bit(photos):
    root = photos({"a": 5, "b": 4})
    results = []
    for workers in (0, 1):
        model = Net(dropout=0.2)
        _, loader = get_dataloader(root, train_transform(SIZE), 4, seed=5, workers=workers)
        for epoch in range(2):
            train(model, loader, 0.1, epoch=epoch)
        results.append(model.weight)
    assert torch.equal(*results)


def test_training_trains_and_evaluation_does_not(photos):
    root = photos({"a": 3})
    model = Net()
    _, loader = get_dataloader(root, eval_transform(SIZE), 2, workers=0)
    _, in_order = get_dataloader(root, eval_transform(SIZE), 2, shuffle=False, workers=0)
    evaluate.evaluate(model, in_order)
    assert not model.training and torch.equal(model.weight, Net().weight)
    train(model, loader, 0.1)
    assert model.training and not torch.equal(model.weight, Net().weight)


# --- mixed photos ----------------------------------------------------------------------------------------------------


def mixed_by_hand(images: torch.Tensor, drawn: tuple) -> tuple[torch.Tensor, list[int], float]:
    """What each row of an odd global batch shows, its partner, and its share of itself."""
    kind, share, down, across = drawn
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    half = math.sqrt(1 - share) / 2
    low = [max(0, round(SIZE * (centre - half))) for centre in (down, across)]
    high = [min(SIZE, round(SIZE * (centre + half))) for centre in (down, across)]
    inside[low[0] : high[0], low[1] : high[1]] = True
    partners = [row + 1 if row % 2 == 0 else row - 1 for row in range(len(images) - 1)] + [len(images) - 1]
    if kind == "cutmix":
        return torch.where(inside, images[partners], images), partners, 1 - inside.sum().item() / SIZE**2
    return share * images + (1 - share) * images[partners], partners, share


def weighted_mean(logits, labels, partners, share):
    """Torch's own loss of soft targets, weighted and smoothed, over the sum of the photos' weights."""
    soft = share * F.one_hot(labels, 2).float() + (1 - share) * F.one_hot(labels[partners], 2).float()
    weight = torch.tensor([1.0, 3.0])
    total = F.cross_entropy(logits, soft, weight=weight, label_smoothing=0.1, reduction="sum")
    return total / weight[labels].sum()


def mean_of_known(logits, labels, partners, share):
    """Several labels per photo, of which some are not known."""
    losses = F.binary_cross_entropy_with_logits(logits, labels.clamp(0, 1), reduction="none")
    others = F.binary_cross_entropy_with_logits(logits, labels[partners].clamp(0, 1), reduction="none")
    own = [loss[known].mean() for loss, known in zip(losses, labels != UNKNOWN, strict=True)]
    partner = [loss[known].mean() for loss, known in zip(others, labels[partners] != UNKNOWN, strict=True)]
    return sum(share * one + (1 - share) * other for one, other in zip(own, partner, strict=True)) / len(labels)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("kind", ["cutmix", "mixup"])
@pytest.mark.parametrize("several", [False, True])
def test_the_ranks_steps_average_to_the_gradient_of_the_mixed_global_batch(
    photos, monkeypatch, several, kind, world, accumulate
):
    data, loader = get_dataloader(photos({"a": 4, "b": 3}), eval_transform(SIZE), 7, workers=0, seed=23,
                                  mixing=Mixing(kind, 1.0))  # fmt: skip
    objective, expected_loss = CrossEntropy(class_weights=np.array([1.0, 3.0]), label_smoothing=0.1), weighted_mean
    if several:
        objective, expected_loss = BinaryCrossEntropy(), mean_of_known
        data.labels = np.array([[0, 1], [1, UNKNOWN], [1, 1], [UNKNOWN, 0], [0, 0], [1, 0], [0, 1]], np.float32)
    images, labels = as_the_model_sees(data, loader.batch_sampler.batch(0, 0))
    images, partners, share = mixed_by_hand(images, Mixing(kind, 1.0).draw(23, 0, 0))
    assert 0.1 < share < 0.9
    reference = Net()
    logits = reference(images)
    expected_loss(logits, labels, partners, share).backward()
    own, other = (objective.correct(objective.probabilities(logits), some) for some in (labels, labels[partners]))
    steps, totals = [], []
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    monkeypatch.setattr(distributed, "_all_reduce", lambda values, operation: values)
    loader.batch_sampler.shares = Shares()
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        model = Net()
        flags = ["--accumulate", str(accumulate)]
        totals.append(train(model, loader, 1.0, objective=objective, flags=flags))
        steps.append(Net().weight - model.weight)
    assert torch.allclose(torch.stack(steps).mean(0), reference.weight.grad, atol=1e-6)
    assert sum(total.count for total in totals) == 7
    correct = (share * own + (1 - share) * other).sum().item()
    assert sum(total.correct for total in totals) == pytest.approx(correct, rel=1e-5)


class AnySide(Net):
    def forward(self, images):
        return super().forward(F.adaptive_avg_pool2d(images, SIZE))


def test_a_run_on_mixed_and_growing_photos_resumes_in_the_middle_bit_for_bit(photos):
    root = photos({"a": 6, "b": 5})

    def weights(begin: torch.Tensor | None, epoch: int, step: int, mixing: Mixing | None) -> list[torch.Tensor]:
        """The weights after each step of what is left of two epochs of three."""
        model, found = AnySide(), []
        if begin is not None:
            model.weight.data.copy_(begin)
        transform = train_transform(32, sides=(16,))
        _, loader = get_dataloader(root, transform, 4, seed=1, workers=0, mixing=mixing)
        hooks = NoHooks(lambda *_: found.append(model.weight.detach().clone()))
        for number in range(epoch, 2):
            train(model, loader, 0.1, epoch=number, step=step if number == epoch else 0, hooks=hooks)
        return found

    mixing = Mixing("both", 0.7)
    whole = weights(None, 0, 0, mixing)
    for done in range(1, 6):
        again = weights(whole[done - 1], *divmod(done, 3), mixing)
        assert all(torch.equal(one, two) for one, two in zip(whole[done:], again, strict=True))
    assert not torch.equal(weights(None, 0, 0, None)[-1], whole[-1])


# --- memory that runs out --------------------------------------------------------------------------------------------


class LacksMemoryIn(Net):
    """Its forward passes `passes`, counted from 0, find no memory."""

    def __init__(self, *passes: int):
        super().__init__()
        self.lacking, self.passes = passes, -1

    def forward(self, images):
        self.passes += 1
        if self.passes in self.lacking:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)


def test_a_step_that_lacks_memory_is_repeated_in_more_parts_which_later_steps_and_a_resumed_run_keep(photos, capsys):
    root, weights, runs = photos({"a": 8, "b": 8}), [], []
    for lacking in ((1, 3), ()):  # step 2 whole, and the second of its two parts; four are small enough
        _, loader = get_dataloader(root, train_transform(SIZE), 4, seed=5, workers=0)
        model = LacksMemoryIn(*lacking)
        run = make_run(model, loader, optimizer=torch.optim.Adam(model.parameters(), 0.1))
        in_parts = NoHooks(lambda done, _, args=run.args: setattr(args, "accumulate", 4))
        totals = loop.train_epoch(run, loader, NoHooks() if lacking else in_parts)
        assert totals.count == 16
        weights.append(model.weight)
        runs.append(run)
    assert torch.equal(*weights)
    assert "out of memory; from here on in 4 parts" in capsys.readouterr().out
    for more, accumulate in (([], 4), (["--accumulate", "8"], 8)):
        again = resolve(training_options(["--resume", "--weights", "none", *more]), ONE, {"config": runs[0].config})
        assert again.accumulate == accumulate and again.parts_for_memory == 4


def test_a_lack_of_memory_for_a_single_photo_and_any_other_error_end_the_run(photos):
    _, loader = get_dataloader(photos({"a": 2, "b": 2}), eval_transform(SIZE), 4, workers=0)
    with pytest.raises(torch.OutOfMemoryError):
        train(LacksMemoryIn(*range(9)), loader)
    model = LacksMemoryIn()
    model.weight = torch.nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="shapes"):
        train(model, loader)
    assert model.passes == 0


# --- a loss that is not finite ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 2])
def test_the_first_step_with_a_loss_that_is_no_number_is_named(photos, tmp_path, first):
    _, loader = get_dataloader(photos({"a": 4, "b": 4}), eval_transform(SIZE), 2, workers=0)
    model = NotANumberFrom(first)
    with pytest.raises(UserError, match=f"not finite in epoch 1, step {first + 1}, on a batch of 2 photos"):
        loop.train_epoch(make_run(model, loader, tmp_path), loader, NoHooks())
    assert len((tmp_path / "non_finite_batch.txt").read_text().splitlines()) == 2


class InfiniteIn(Net):
    """Its logits overflow in the forward passes `passes`, counted from 0."""

    def __init__(self, *passes: int):
        super().__init__()
        self.bad, self.passes = passes, 0

    def forward(self, images):
        self.passes += 1
        return super().forward(images) * (math.inf if self.passes - 1 in self.bad else 1)


@pytest.mark.parametrize("clip", [[], ["--clip-norm", "100"]])
def test_a_step_that_overflows_in_float16_is_skipped_and_left_out_of_the_means(photos, clip):
    data, loader = get_dataloader(photos({"a": 4, "b": 4}), eval_transform(SIZE), 2, workers=0)
    model, reference, weights = InfiniteIn(1, 2), Net(), []
    run = make_run(
        model, loader, flags=clip, scaler=torch.amp.GradScaler("cpu", init_scale=8.0), optimizer=sgd(model, 0.1)
    )
    totals = loop.train_epoch(run, loader, NoHooks(lambda *_: weights.append(model.weight.detach().clone())))
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[2], weights[3])
    assert run.scaler.get_scale() == 2
    losses = []
    for step, weight in ((0, Net().weight), (3, weights[2])):
        images, labels = as_the_model_sees(data, loader.batch_sampler.batch(0, step))
        reference.weight.data.copy_(weight)
        losses += F.cross_entropy(reference(images), labels, reduction="none").tolist()
    assert totals.count == 4 and totals.mean_loss == pytest.approx(sum(losses) / 4, rel=1e-6)


def test_overflows_that_a_smaller_scale_does_not_end_end_the_run(photos, tmp_path):
    _, loader = get_dataloader(photos({"a": 4, "b": 4}), eval_transform(SIZE), 2, workers=0)
    model = InfiniteIn(1, 2, 3)
    run = make_run(model, loader, tmp_path, scaler=torch.amp.GradScaler("cpu", init_scale=4.0))
    with pytest.raises(UserError, match="gradient is not finite in epoch 1, step 4, on a batch of 2 photos"):
        loop.train_epoch(run, loader, NoHooks())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_sums_tell_the_first_bad_step_when_they_are_read(value):
    running = RunningTotals(CPU)
    for step, loss in enumerate([1.0, value, 1.0, value]):
        running.add(step, torch.tensor(loss), torch.tensor(1), 2)
    with pytest.raises(NonFiniteLoss) as caught:
        running.read()
    assert caught.value.step == 1


def test_the_photos_of_the_bad_batch_are_listed(photos, tmp_path):
    data, loader = get_dataloader(photos({"a": 4, "b": 4}), eval_transform(SIZE), 5, seed=2, workers=0)
    text = loop.non_finite_message(1, 3, loader, str(tmp_path))
    expected = [data.path(index) for index in loader.batch_sampler.order(3)[5:]]
    assert (tmp_path / "non_finite_batch.txt").read_text().splitlines() == expected
    assert all(part in text for part in ("epoch 4, step 2", "3 photos", *expected, "--lr", "--amp off"))
    assert len(text.splitlines()) == 1


# --- a device without float64 ----------------------------------------------------------------------------------------


class NoFloat64(TorchDispatchMode):
    """As Apple's GPUs: no operation returns float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        if any(isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64 for tensor in tree_leaves(output)):
            raise TypeError(f"{function} made float64")
        return output


@pytest.mark.parametrize("objective", [CrossEntropy(), BinaryCrossEntropy()])
def test_training_and_evaluation_need_no_float64_on_the_device(photos, monkeypatch, objective):
    monkeypatch.setattr(objectives, "WITHOUT_FLOAT64", ("cpu",))
    root = photos({"a": 4, "b": 3})
    (data, loader), (_, in_order) = (
        get_dataloader(root, eval_transform(SIZE), 3, workers=0, shuffle=shuffle) for shuffle in (True, False)
    )
    if isinstance(objective, BinaryCrossEntropy):
        data.labels = in_order.dataset.labels = np.eye(2, dtype=np.float32)[data.labels]
    transforms.normalize(torch.zeros(3, SIZE, SIZE, dtype=torch.uint8))  # its constants come from the host
    run = make_run(Net(), loader, objective=objective, flags=["--clip-norm", "1"])
    with NoFloat64():
        totals = loop.train_epoch(run, loader, NoHooks())
        _, losses = evaluate.predict_split(run.model, in_order, objective)
    assert totals.count == 7 and losses.dtype == np.float64


# --- sums ------------------------------------------------------------------------------------------------------------


def test_sums_are_exact_where_float32_would_stop_counting():
    running = RunningTotals(CPU, Totals(0.5, 2**24, 2**25))
    for step in range(3):
        running.add(step, torch.tensor(0.25), torch.tensor(1), 1)
    assert running.read() == Totals(1.25, 2**24 + 3, 2**25 + 3)


def test_no_photo_is_no_division_by_zero():
    assert (Totals(0.0, 0, 0).mean_loss, Totals(0.0, 0, 0).accuracy) == (0, 0)
