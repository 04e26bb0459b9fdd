"""The margins of the training photos' labels: from the forward passes of training; wrong labels have low ones."""

import copy

import numpy as np
import pytest
import torch
from helpers.photos import draw_photo
from helpers.runs import SIZE, Net, NoHooks, make_run

from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data.transforms import MixedLabels, eval_transform, to_device
from pyimagesearch.models.objectives import BinaryCrossEntropy
from pyimagesearch.training.loop import train_epoch

WRONG = (3, 11, 20)  # photos that get the label of another colour


@pytest.fixture
def loader(tmp_path):
    """24 photos of two colours, three of them with a wrong label, in batches of 5."""
    generator = np.random.default_rng(0)
    for number in range(24):
        shade = generator.integers(0, 60, 3)
        colour = (shade + [[160, 0, 0], [0, 0, 160]][number % 2]).tolist()
        label = "ab"[number % 2 ^ (number in WRONG)]
        draw_photo(tmp_path / "training" / label / f"{number:02}.png", (SIZE, SIZE), tuple(colour))
    return get_dataloader(tmp_path / "training", eval_transform(SIZE), 5, workers=0)[1]


def begin(loader, *flags: str):
    model = Net()
    return make_run(model, loader, flags=flags, optimizer=torch.optim.SGD(model.parameters(), lr=0.005))


def train(run, loader, epochs: int, after_step=lambda done, running: None) -> dict:
    while run.epoch < epochs:
        train_epoch(run, loader, NoHooks(after_step))
        run.epoch, run.step, run.totals = run.epoch + 1, 0, None
    return run.margins.gathered()


def test_wrong_labels_have_the_lowest_margins(loader):
    run = begin(loader)
    assert train(run, loader, 6)["counts"].tolist() == [6] * 24
    margins, rivals = run.margins.means()
    lowest = [int(loader.dataset.name(index)[2:4]) for index in margins.argsort()[:3]]
    assert sorted(lowest) == list(WRONG)
    assert (rivals == 1 - loader.dataset.labels).all()


def test_a_margin_is_that_of_the_pass_that_trains(loader):
    """At a rate of 0 each epoch's margin is that of the untrained network."""
    model = Net()
    run = make_run(model, loader)
    train(run, loader, 2)
    data = loader.dataset
    images = torch.stack([data[index][0] for index in range(24)])
    logits = model(to_device(images, torch.empty(0), torch.device("cpu"))[0]).detach().numpy()
    given = logits[np.arange(24), data.labels]
    np.testing.assert_allclose(run.margins.means()[0], given - logits[np.arange(24), 1 - data.labels], atol=1e-5)


def test_accumulated_parts_give_the_same_margins(loader):
    whole, parts = (train(begin(loader, *flags), loader, 2) for flags in ((), ("--accumulate", "3")))
    torch.testing.assert_close(parts["margins"], whole["margins"], rtol=1e-4, atol=1e-5)
    assert parts["counts"].tolist() == [2] * 24


def test_a_run_resumed_within_an_epoch_has_the_same_margins(loader):
    whole, saved = begin(loader), []

    def save(done, running):
        if (whole.epoch, done) == (1, 2):
            saved.append(copy.deepcopy(whole.state(done, running.read())))

    expected = train(whole, loader, 3, save)
    again = begin(loader)
    again.load(saved[0])
    assert again.margins.sums["counts"].sum() == 24 + 2 * 5
    found = train(again, loader, 3)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_checkpoint_of_an_earlier_version_goes_on_without_margins(loader):
    run = begin(loader)
    state = run.state()
    del state["margins"]
    run.load(state)
    assert np.isnan(run.margins.means()[0]).all()


def test_mixed_photos_and_unknown_labels_do_not_count(loader):
    run = begin(loader)
    rows = loader.batch_sampler.batch(0, 0)
    labels = torch.zeros(5, dtype=torch.int64)
    run.margins.add(0, 0, torch.randn(5, 2), MixedLabels(labels, labels, 0.7))
    run.margins.add(0, 1, torch.randn(5, 2), labels)
    counts = run.margins.gathered()["counts"].numpy()
    assert counts[rows].tolist() == [0] * 5 and counts.sum() == 5

    several = begin(loader)
    several.margins.objective = BinaryCrossEntropy()
    several.margins.sums = {name: torch.zeros((24, 2), dtype=v.dtype) for name, v in several.margins.sums.items()}
    labels = torch.tensor([[1.0, 0.0], [-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]])
    several.margins.add(0, 0, torch.full((5, 2), 2.0), labels)
    several.margins.gathered()
    margins, rivals = several.margins.means()
    expected = np.array([[2, -2], [np.nan, np.nan], [2, 2], [-2, -2], [np.nan, np.nan]])
    np.testing.assert_array_equal(margins[rows], expected)
    assert rivals[rows][[0, 2, 3]].tolist() == [[0, 1], [0, 0], [1, 1]]
