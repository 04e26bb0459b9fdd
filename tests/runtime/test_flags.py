"""The defaults of the flags are the tutorial's, and an invalid value is one line."""

import os

import pytest

from pyimagesearch import config
from pyimagesearch.evaluation.options import inference_options
from pyimagesearch.training.options import training_options

SCRIPTS = {"training": training_options, "inference": inference_options}

WHOLE = ("0", "-1", "1.5", "", "many", "nan", "inf", "1\n2")
INVALID = {
    ("training", "--limit"): WHOLE,
    ("training", "--image-size"): (*WHOLE, "31", "4097"),
    ("training", "--augment"): ("", "none", "Tutorial"),
    ("training", "--grow-from"): ("0", "-0.5", "1.1", "nan", "48:96"),
    ("training", "--mix"): ("", "all"),
    ("training", "--mix-share"): ("0", "1.1", "nan", "0.5"),
    ("training", "--workers"): ("-1", "1.5", "", "all", "1025"),
    ("training", "--channels"): ("", "2", "4", "grey"),
    ("training", "--freeze-bn=yes"): (),
    ("training", "--freeze-backbone=yes"): (),
    ("training", "--epochs"): WHOLE,
    ("training", "--batch-size"): WHOLE,
    ("training", "--global-batch-size"): WHOLE,
    ("training", "--lr"): ("0", "-1e-3", "", "fast", "nan", "inf", "1e999"),
    ("training", "--optimizer"): ("", "lion"),
    ("training", "--recipe"): ("", "Modern"),
    ("training", "--backbone-lr"): ("0", "-1", "nan", "inf"),
    ("training", "--scheduler"): ("", "linear"),
    ("training", "--lr-final"): ("-1", "1.1", "nan"),
    ("training", "--warmup-epochs"): ("-1", "20", "inf"),
    ("training", "--ema"): ("0", "1", "-0.5", "nan", "on"),
    ("training", "--patience"): WHOLE,
    ("training", "--max-time"): ("0", "0m", "-1", "", "1:60", "1:5", "1:30:00", "5d", "3 m", "m", "nan", "9" * 400),
    ("training", "--weight-decay"): ("-1", "inf", "nan"),
    ("training", "--clip-norm"): ("0", "-1", "nan"),
    ("training", "--accumulate"): WHOLE,
    ("training", "--label-smoothing"): ("-0.1", "1", "nan"),
    ("training", "--class-weights"): ("", "equal"),
    ("training", "--seed"): ("-1", "0.5", "", "now", "2147483648"),
    ("training", "--keep"): ("", "first"),
    ("training", "--no-calibrate=yes"): (),
    ("training", "--amp"): ("", "on", "fp8"),
    ("training", "--parallel"): ("", "yes"),
    ("training", "--nproc"): WHOLE,
    ("training", "--checkpoint-every"): WHOLE,
    ("training", "--no-such-flag"): ("1",),
    ("training", "--epoch"): ("1",),
    ("training", "stray\nword"): (),
    ("inference", "--count"): (*WHOLE, "101"),
    ("inference", "--seed"): ("-1", "0.5", "", "now", "2147483648"),
    ("inference", "--amp"): ("", "on"),
    ("inference", "--top-k"): WHOLE,
    ("inference", "--min-confidence"): ("", "-0.1", "1.1", "90", "nan", "high"),
    ("inference", "--tta=yes"): (),
    ("inference", "--pages"): ("-1", "0.5", "", "every"),
    ("inference", "--on"): ("", "evaluation"),
    ("inference", "--epochs"): ("1",),
}
CASES = [
    (script, [flag, value] if value is not None else [flag])
    for (script, flag), values in INVALID.items()
    for value in values or (None,)
]
EXCLUSIVE = [
    ("training", ["--batch-size", "8", "--global-batch-size", "8"]),
    ("training", ["--resume", "--restart"]),
    ("training", ["--freeze-backbone", "--weights", "none"]),
    ("training", ["--no-freeze-bn", "--freeze-backbone"]),
    ("training", ["--lr-final", "0.1", "--scheduler", "step"]),
    ("training", ["--warmup-epochs", "3", "--epochs", "3"]),
    ("training", ["--backbone-lr", "0.1", "--weights", "none"]),
    ("training", ["--backbone-lr", "0.1", "--freeze-backbone"]),
    ("training", ["--grow-from", "0.5", "--compile"]),
    ("inference", ["--images", "a.jpg", "--on", "test"]),
    ("inference", ["--export", "a.onnx", "--on", "test"]),
    ("inference", ["--csv", "a.csv"]),
    ("inference", ["--csv", ""]),
    ("inference", ["--csv", "a.csv", "--export", "a.onnx"]),
    ("inference", ["--top-k", "2"]),
    ("inference", ["--pages", "1", "--on", "test"]),
    ("inference", ["--count", "1", "--images", "a.jpg"]),
    ("inference", ["--seed", "0", "--on", "test"]),
    ("inference", ["--workers", "1", "--export", "a.onnx"]),
    ("inference", ["--amp", "bf16", "--export", "a.onnx"]),
    ("inference", ["--tta", "--export", "a.onnx"]),
    ("inference", ["--min-confidence", "0.9", "--export", "a.onnx"]),
]


@pytest.mark.parametrize("script, arguments", CASES + EXCLUSIVE)
def test_an_invalid_flag_is_one_line_that_names_it_and_status_2(capsys, script, arguments):
    with pytest.raises(SystemExit) as caught:
        SCRIPTS[script](arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    assert err.startswith("error: ") and err.endswith("(see --help)\n") and len(err.splitlines()) == 1
    assert arguments[0].split("=")[0].encode("unicode_escape").decode() in err


@pytest.mark.parametrize("flag, text", [("--epochs", "0"), ("--lr", "nan"), ("--seed", "1e3")])
def test_the_line_says_what_was_expected_and_found(capsys, flag, text):
    with pytest.raises(SystemExit):
        training_options([flag, text])
    error = capsys.readouterr().err
    assert "expected a" in error and f"found {text!r}" in error


def test_the_defaults_of_training_are_the_tutorials():
    args = training_options([])
    assert (args.data, args.output) == ("dataset", "output")
    assert (args.epochs, args.lr, args.image_size) == (config.EPOCHS, config.LR, config.IMAGE_SIZE)
    assert (args.augment, args.weights, args.keep, args.parallel) == ("tutorial", "imagenet", "best", "auto")
    assert (args.batch_size, args.global_batch_size, args.limit, args.workers) == (None, None, None, None)
    assert (args.model, args.channels) == ("densenet121", 3)
    assert (args.optimizer, args.scheduler, args.warmup_epochs, args.weight_decay) == ("adam", "step", 0, 0)
    assert (args.ema, args.patience, args.max_time) == (None, None, None)
    assert (args.accumulate, args.clip_norm, args.label_smoothing, args.class_weights) == (1, None, 0, "none")
    assert (args.recipe, args.origin, args.backbone_lr) == ("tutorial", {}, 1)
    assert (args.mix, args.mix_share, args.grow_from) == ("none", None, 1)
    assert not (args.sync_bn or args.resume or args.restart or args.freeze_backbone)


def test_the_defaults_of_inference_are_one_class_and_a_few_pages():
    args = inference_options(["--images", "a.jpg"])
    assert (args.images, args.on, args.export, args.csv) == (["a.jpg"], None, None, None)
    assert (args.top_k, args.pages) == (1, 4)
    assert inference_options(["--images", "a.jpg", "--pages", "all"]).pages > 10**9


@pytest.mark.parametrize("flags, freeze", [([], None), (["--freeze-bn"], True), (["--no-freeze-bn"], False)])
def test_frozen_batchnorm_can_be_turned_on_and_off(flags, freeze):
    assert training_options(flags).freeze_bn is freeze


@pytest.mark.parametrize(
    "arguments, name, value",
    [
        (["--image-size", "32"], "image_size", 32),
        (["--image-size", "4096"], "image_size", 4096),
        (["--workers", "0"], "workers", 0),
        (["--lr", "1e-3"], "lr", 0.001),
        (["--seed", "0"], "seed", 0),
        (["--seed", "2147483647"], "seed", 2**31 - 1),
        (["--limit=1"], "limit", 1),
    ],
)
def test_the_bounds_themselves_are_allowed(arguments, name, value):
    assert getattr(training_options(arguments), name) == value


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("30m", 1800), ("30", 1800), ("0.5", 30), ("1.5h", 5400), ("1:30", 5400)]
)
def test_a_time_has_a_unit_or_is_in_minutes(text, seconds):
    assert training_options(["--max-time", text]).max_time == seconds


@pytest.mark.parametrize("flag", [["--local-rank=3"], ["--local_rank", "3"]])
@pytest.mark.parametrize("given, used", [(None, "3"), ("1", "1")])
def test_the_flag_of_torch_distributed_launch_replaces_a_missing_local_rank(monkeypatch, flag, given, used):
    monkeypatch.setenv("LOCAL_RANK", given or "")
    if given is None:
        del os.environ["LOCAL_RANK"]
    for options in SCRIPTS.values():
        assert "local_rank" not in vars(options(flag))  # ranks with the same flags have equal args
        assert os.environ["LOCAL_RANK"] == used


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_groups_the_flags_by_subject_and_fits_a_terminal(capsys, script):
    with pytest.raises(SystemExit) as caught:
        SCRIPTS[script](["--help"])
    text = capsys.readouterr().out
    general = text.partition("options:")[2].partition("\n\n")[0]
    assert caught.value.code == 0
    assert [line.split()[0] for line in general.strip().splitlines()] == ["-h,"]
    assert max(map(len, text.splitlines())) <= 100
