"""What a resumed run may change: how its batch is computed, and not the batch or the learning rate."""

import pytest
from helpers.runs import ONE

from pyimagesearch.runtime.distributed import Launch
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.training.checkpoints import check_same_run
from pyimagesearch.training.optimizer import scaled_lr
from pyimagesearch.training.options import resolve, training_options

FIRST = ["--batch-size", "16"]


def resumed(flags: list[str], before: dict, launch: Launch = ONE):
    """The resolved flags of a run that goes on from one of config `before`, and may."""
    args = resolve(training_options(flags), launch, {"config": before})
    check_same_run(before, vars(args))
    return args


@pytest.mark.parametrize("flags", [["--batch-size", "8", "--accumulate", "2"], ["--batch-size", "8"]])
def test_a_run_resumes_in_smaller_parts_with_its_batch_and_rate(flags):
    first = resolve(training_options(FIRST), ONE, None)
    again = resumed(flags, vars(first))
    for args in (again, resumed(flags, vars(again))):  # and when it is resumed once more
        assert (args.global_batch_size, args.batch_size, args.accumulate) == (16, 8, 2)
        assert scaled_lr(args) == scaled_lr(first)
    back = resumed(FIRST, vars(again))
    assert (back.global_batch_size, back.accumulate, scaled_lr(back)) == (16, 1, scaled_lr(first))


def test_the_rate_of_accumulated_batches_stays_on_other_parts_and_devices():
    first = resolve(training_options(["--batch-size", "8", "--accumulate", "4"]), ONE, None)
    args = resumed(["--batch-size", "4"], vars(first), Launch("ddp", ONE.device, 0, 2))
    assert (args.global_batch_size, args.accumulate) == (32, 4)
    assert scaled_lr(args) == scaled_lr(first) == first.lr * 4


def test_a_run_of_a_given_global_batch_resumes_in_parts():
    first = resolve(training_options(["--global-batch-size", "24"]), ONE, None)
    args = resumed(["--batch-size", "8"], vars(first))
    assert (args.global_batch_size, args.accumulate, scaled_lr(args)) == (24, 3, scaled_lr(first))


def test_a_checkpoint_of_an_earlier_version_resumes_in_parts():
    first = vars(resolve(training_options(FIRST), ONE, None))
    before = {name: value for name, value in first.items() if name not in ("lr_batch_size", "partial_weights")}
    args = resumed(["--batch-size", "8"], before)
    assert (args.accumulate, args.lr_batch_size) == (2, 16)


def test_another_global_batch_is_another_run():
    first = resolve(training_options(FIRST), ONE, None)
    with pytest.raises(UserError, match="--global-batch-size is 8 and was 16"):
        resumed(["--global-batch-size", "8"], vars(first))


@pytest.mark.parametrize("flags, said", [(["--no-freeze-bn"], True), ([], False)])
def test_other_parts_are_said_and_what_they_mean_for_batchnorm(flags, said, capsys):
    first = resolve(training_options([*FIRST, *flags]), ONE, None)
    capsys.readouterr()
    resumed(["--batch-size", "8", *flags], vars(first))
    out = capsys.readouterr().out
    assert out.startswith("[INFO] computing each batch of 16 in 2 parts") and len(out.splitlines()) == 1
    assert ("statistics of BatchNorm" in out) is said


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--batch-size", "4", "--global-batch-size", "8"], "give one of the two"),
        (["--batch-size", "auto", "--sync-bn", "--no-freeze-bn"], "--batch-size auto"),
        (["--shares", "auto", "--compile"], "leave one of the two out"),
        (["--shares", "1,0"], "argument --shares: expected a number of at least 0.001"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_in_one_line(flags, said, capsys):
    with pytest.raises(SystemExit):
        training_options(flags)
    assert said in (error := capsys.readouterr().err) and error.count("\n") == 1


@pytest.mark.parametrize(
    "shares, parallel, said", [("2,1", "ddp", "2 numbers, for 1 processes"), ("auto", "fsdp", "--parallel fsdp")]
)
def test_shares_that_this_launch_cannot_have_are_refused(shares, parallel, said):
    with pytest.raises(UserError, match=said):
        resolve(training_options(["--shares", shares]), Launch(parallel, ONE.device, 0, 1), None)


def test_a_batch_that_fits_is_the_same_global_batch_and_resumes_as_such():
    first = resolve(training_options(["--batch-size", "auto", "--global-batch-size", "48"]), ONE, None)
    assert (first.global_batch_size, first.fit_batch) == (48, True)
    first.accumulate = 4  # what fitted
    again = resumed(["--batch-size", "auto"], vars(first))
    assert (again.global_batch_size, again.accumulate, scaled_lr(again)) == (48, 1, scaled_lr(first))
