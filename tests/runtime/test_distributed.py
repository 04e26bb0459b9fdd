"""Several real processes compute the same as one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.photos import REPOSITORY
from PIL import Image

pytestmark = pytest.mark.training
RANKS = REPOSITORY / "tests" / "helpers" / "ranks.py"
GLOBAL_BATCH = 8
CASES = (
    "frozen_and_synchronised", "accumulated", "averaged", "mixed", "paced", "samples", "resumed", "sharded",
    "interchanged", "held", "short_of_memory",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """25 training photos: the last global batch of 8 has one, and neither 2 nor 3 ranks divide anything evenly."""
    root = tmp_path_factory.mktemp("data")
    draw(root / "training", {"a": 8, "b": 8, "c": 9})
    draw(root / "validation", {"a": 5, "b": 4, "c": 8})
    return root


def draw(folder: Path, counts: dict[str, int]) -> None:
    generator = np.random.default_rng(len(counts))
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            noise = generator.integers(0, 120, (40, 48, 3)) + 45 * number
            Image.fromarray(noise.astype(np.uint8)).save(folder / name / f"{index}.png")


def torchrun(processes: int, *arguments) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*launcher, str(RANKS), *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])},
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """{world size: folder} of the same cases in 1, 2 and 3 processes, one launch for each world size.

    Some cases are tests themselves: "resumed" fails where a resumed run ends with other weights than the whole one,
    and "sharded" does the same under FSDP; "averaged" fails where ranks evaluate different averages, "short_of_memory"
    where one that survived a lack of memory in step 4 ends with others than one of as many parts.
    """
    folders = {}
    for processes in (1, 2, 3):
        folders[processes] = tmp_path_factory.mktemp(f"world{processes}")
        done = torchrun(processes, data, folders[processes], *CASES)
        assert done.returncode == 0, done.stderr
    return folders


def assert_same(one: Path, other: Path) -> None:
    """Losses, confusion and weights of two trainings are equal, up to the rounding of float32."""
    expected, found = (json.loads(Path(f"{run}.json").read_text()) for run in (one, other))
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    assert found["confusion"] == expected["confusion"]
    margins, others = (run["margins"] for run in (expected, found))
    np.testing.assert_allclose(others["margins"], margins["margins"], rtol=1e-4, atol=1e-5)
    assert others["counts"] == margins["counts"] and others["rivals"] == margins["rivals"]
    assert max(margins["counts"]) <= 3 and sum(margins["counts"]) > 25  # mixed photos do not count
    weights, others = (torch.load(f"{run}.pth") for run in (one, other))
    assert weights.keys() == others.keys()
    for name in weights:
        torch.testing.assert_close(others[name], weights[name], rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("batchnorm", ["frozen", "sync", "frozen backbone"])
@pytest.mark.parametrize("processes", [2, 3])
def test_losses_and_weights_do_not_depend_on_the_number_of_processes(trained, batchnorm, processes):
    assert_same(trained[1] / batchnorm, trained[processes] / batchnorm)


@pytest.mark.parametrize("batchnorm", ["", "sync "])
@pytest.mark.parametrize("processes", [2, 3])
def test_the_average_of_the_weights_does_not_depend_on_the_number_of_processes(trained, batchnorm, processes):
    assert_same(trained[1] / f"{batchnorm}averaged", trained[processes] / f"{batchnorm}averaged")


@pytest.mark.parametrize("processes", [2, 3])
def test_accumulated_steps_equal_those_of_the_whole_batch(trained, processes):
    assert_same(trained[1] / "frozen", trained[processes] / "accumulated")


@pytest.mark.parametrize("processes", [2, 3])
def test_weighted_means_and_clipped_gradients_do_not_depend_on_the_number_of_processes(trained, processes):
    assert_same(trained[1] / "weighted", trained[processes] / "weighted")
    plain, weighted = (torch.load(trained[1] / f"{name}.pth") for name in ("accumulated", "weighted"))
    assert not torch.allclose(plain["classifier.weight"], weighted["classifier.weight"], atol=1e-4)


@pytest.mark.parametrize("batchnorm", ["frozen", "sync"])
@pytest.mark.parametrize("processes", [2, 3])
def test_mixed_and_growing_photos_do_not_depend_on_the_number_of_processes(trained, batchnorm, processes):
    assert_same(trained[1] / f"mixed {batchnorm}", trained[processes] / f"mixed {batchnorm}")
    plain, mixed = (torch.load(trained[1] / f"{name}.pth") for name in ("weighted", "mixed frozen"))
    assert not torch.allclose(plain["classifier.weight"], mixed["classifier.weight"], atol=1e-4)


@pytest.mark.parametrize("processes", [2, 3])
def test_unequal_shares_and_those_that_follow_the_ranks_speed_change_no_loss(trained, processes):
    assert_same(trained[1] / "mixed frozen", trained[processes] / "mixed, unequal")
    assert_same(trained[1] / "frozen", trained[processes] / "paced")


def test_synchronised_statistics_are_those_of_each_accumulated_part(trained):
    for processes in (1, 2, 3):
        weights = torch.load(trained[processes] / "sync in parts.pth")
        assert weights["baseModel.features.0.layers.1.num_batches_tracked"] == 3 * (3 * 3 + 1)
        assert all(tensor.isfinite().all() for tensor in weights.values())


def test_training_changes_synchronised_statistics_and_not_frozen_ones(trained):
    frozen, sync = (torch.load(trained[2] / f"{name}.pth") for name in ("frozen", "sync"))
    assert not frozen["baseModel.features.0.layers.1.running_mean"].any()
    assert sync["baseModel.features.0.layers.1.running_mean"].any()
    assert sync["baseModel.features.0.layers.1.num_batches_tracked"] == 3 * 4


@pytest.mark.parametrize("case", ["frozen", "sync", "frozen backbone", "weighted"])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_fsdp_has_the_losses_and_weights_of_one_process(trained, case, processes):
    assert_same(trained[1] / case, trained[processes] / f"fsdp {case}")


@pytest.mark.parametrize("ended", ["ddp", "fsdp"])
def test_a_run_begun_under_one_kind_on_two_ranks_ends_under_another_on_three_as_it_would_in_one_process(trained, ended):
    whole, found = (torch.load(trained[n] / f"interchanged {ended}.pth") for n in (1, 3))
    assert whole.keys() == found.keys()
    for name in whole:
        torch.testing.assert_close(found[name], whole[name], rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_a_rank_under_fsdp_holds_what_the_plan_says(trained):
    for processes in (2, 3):
        ranks = [json.loads((trained[processes] / f"held-{rank}.json").read_text()) for rank in range(processes)]
        for kind in ("parameters", "gradients", "optimizer state"):
            for under in ("ddp", "fsdp"):
                assert max(rank[under][kind] for rank in ranks) == ranks[0][under]["planned"][kind]
            assert sum(rank["fsdp"][kind] for rank in ranks) == ranks[0]["ddp"][kind]
            assert max(rank["fsdp"][kind] for rank in ranks) < 1.2 / processes * ranks[0]["ddp"][kind]


@pytest.mark.parametrize("processes", [2, 3])
def test_each_photo_is_seen_by_one_rank_once_per_epoch_in_shares_as_equal_as_possible(trained, processes):
    for epoch in (0, 1):
        files = [trained[processes] / f"epoch{epoch}-rank{rank}.json" for rank in range(processes)]
        ranks = [json.loads(file.read_text()) for file in files]
        assert sorted(index for shares in ranks for share in shares for index in share) == list(range(25))
        for step, shares in enumerate(zip(*ranks, strict=True)):
            sizes = [len(share) for share in shares]
            assert sum(sizes) == (GLOBAL_BATCH if step < 3 else 1)
            assert max(sizes) - min(sizes) <= 1


def errors_of(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def test_a_photo_that_one_rank_cannot_read_ends_all_ranks_with_one_line(data, tmp_path):
    draw(tmp_path / "training", {"a": 8, "b": 8, "c": 9})
    draw(tmp_path / "validation", {"a": 1, "b": 1, "c": 1})
    (tmp_path / "training" / "b" / "3.png").write_bytes(b"no photo")
    done = torchrun(3, tmp_path, tmp_path, "unreadable")
    assert done.returncode != 0
    assert len(errors_of(done)) == 1 and "b/3.png" in errors_of(done)[0]
    assert 'ranks.py", line' not in done.stderr  # no rank has a traceback


def test_a_loss_that_is_not_finite_on_one_rank_is_reported_once_with_its_step_and_photos(data, tmp_path):
    done = torchrun(2, data, tmp_path, "not_finite")
    assert len(errors_of(done)) == 1 and "epoch 1, step 3" in errors_of(done)[0]
    assert len((tmp_path / "non_finite_batch.txt").read_text().splitlines()) == GLOBAL_BATCH


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What the comparison of two ranks says, {case: (rank 0's exception, rank 1's)}; see helpers/ranks.py."""
    data, output = tmp_path_factory.mktemp("compared"), tmp_path_factory.mktemp("said")
    for case in ("same", "fewer", "renamed", "classes", "content"):
        for number in (0, 1):
            draw(data / case / str(number) / "training", {"a": 3, "b": 4})
    (data / "fewer" / "1" / "training" / "b" / "3.png").unlink()
    (data / "renamed" / "1" / "training" / "b" / "2.png").rename(data / "renamed" / "1" / "training" / "b" / "9.png")
    (data / "classes" / "1" / "training" / "b").rename(data / "classes" / "1" / "training" / "c")
    photo = data / "content" / "1" / "training" / "a" / "1.png"
    content = bytearray(photo.read_bytes())
    content[len(content) // 2] ^= 1
    photo.write_bytes(content)
    done = torchrun(2, data, output, "compared")
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((output / f"rank{number}.json").read_text()) for number in (0, 1)]
    return {case: (ranks[0].get(case, ""), ranks[1].get(case, "")) for case in ranks[0] | ranks[1]}


@pytest.mark.parametrize(
    "case, parts",
    [
        ("flags", ["--lr is 1.1 and 0.1; --seed is 1 and 0"]),
        ("version", ["pyimagesearch is 1.1 and 1.0"]),
        (
            "fewer",
            ["the number of photos in training is 6 and 7", "the content of b/3.png in training is missing and "],
        ),
        ("renamed", ["fingerprint of names", "the content of b/2.png in training is missing and "]),
        ("classes", ["the classes in training is ['a', 'c'] and ['a', 'b']"]),
        ("content", ["the content of a/1.png in training is "]),
    ],
)
def test_ranks_that_differ_end_together_with_one_line_that_names_what_differs(compared, case, parts):
    host = socket.gethostname()
    main, other = compared[case]
    assert main == "2"  # the exit status: rank 1 prints
    assert other.startswith(f"rank 1 on {host} and rank 0 on {host} differ: ")
    assert all(part in other for part in parts), other
    assert len(other) < 600 and len(other.splitlines()) == 1


def test_ranks_with_the_same_photos_in_other_places_may_train(compared):
    assert not {"same", "places"} & set(compared)
