"""--recipe: what it sets, what wins over it, and that each value says where it came from."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.photos import REPOSITORY
from helpers.runs import ONE, make_run
from torch import nn

from pyimagesearch.create_dataloaders import GlobalBatchSampler
from pyimagesearch.data.datasets import PhotoTable
from pyimagesearch.models.objectives import build_objective
from pyimagesearch.runtime.flags import Parser
from pyimagesearch.training.checkpoints import check_same_run
from pyimagesearch.training.options import resolve, training_options
from pyimagesearch.training.recipes import MODERN, RECIPES

MODERN_RUN = ["--recipe", "modern"]
SCRATCH = ["--weights", "none"]
TABLE = "image,group,split,a,b\n1.png,1,training,1,0\n2.png,2,validation,0,1\n3.png,3,evaluation,0,1\n"
STARTS = [[], SCRATCH, ["--freeze-backbone"], ["--model", "vit_b_16"], ["--model", "swin_t", *SCRATCH]]


@pytest.fixture
def actions(monkeypatch) -> dict[str, argparse.Action]:
    """The flags of train_distributed.py as argparse has them."""
    made = []
    with monkeypatch.context() as patched:
        patched.setattr(Parser, "parse_args", lambda parser, arguments: made.append(parser) or exit())
        with pytest.raises(SystemExit):
            training_options([])
    return {action.dest: action for action in made[0]._actions}


def different(*flags: str) -> dict[str, object]:
    """What the recipe sets other than the defaults, in a run with these flags."""
    with_recipe, without = (vars(training_options([*some, *flags])) for some in (MODERN_RUN, []))
    names = [name for name in without if with_recipe[name] != without[name]]
    return {name: with_recipe[name] for name in names if name not in ("recipe", "origin")}


@pytest.mark.parametrize("part", [part for parts in RECIPES.values() for part in parts], ids=lambda part: part.runs)
def test_a_recipe_holds_valid_values_of_flags(actions, part):
    for name, value in part.values.items():
        action = actions[name]
        assert action.choices is None or value in action.choices, name
        assert action.type is None or action.type(str(value)) == value, name


@pytest.mark.parametrize("start", STARTS)
def test_without_a_recipe_every_flag_has_its_own_default(actions, start):
    args, named = training_options(["--recipe", "tutorial", *start]), {flag[2:].replace("-", "_") for flag in start}
    for name in vars(args).keys() - named - {"recipe", "origin", "fit_batch"}:
        assert getattr(args, name) == actions[name].default, name


@pytest.mark.parametrize("start", STARTS)
def test_a_named_flag_wins_over_each_value_of_the_recipe(actions, start):
    for name in different(*start).keys() - {"model", "weights"}:
        flag, default = f"--{name.replace('_', '-')}", actions[name].default
        other = default if default is not None else 0.5
        args = training_options([*MODERN_RUN, *start, f"{flag}={other}"])
        assert getattr(args, name) == other, name
        assert args.origin[name] == "command line"


def test_a_switch_that_is_named_wins():
    args = training_options([*MODERN_RUN, "--no-freeze-bn"])
    assert args.freeze_bn is False and args.origin["freeze_bn"] == "command line"


def test_the_values_depend_on_what_the_run_starts_from():
    scratch, tuned, probe = different(*SCRATCH), different(), different("--freeze-backbone")
    assert scratch["optimizer"] == tuned["optimizer"] == probe["optimizer"] == "adamw"
    assert tuned["backbone_lr"] < 1 and "backbone_lr" not in scratch.keys() | probe.keys()
    assert "mix" not in scratch and different(*SCRATCH, "--epochs", "50")["mix"] == "cutmix"
    assert scratch["weight_decay"] > 0 and "weight_decay" not in probe  # 0, the default
    for start in ([], SCRATCH):
        network, transformer = different(*start), different("--model", "vit_b_16", *start)
        assert transformer["lr"] < network["lr"] and transformer["weight_decay"] > network["weight_decay"]
    assert different("--model", "vit_b_16", "--freeze-backbone") == probe


@pytest.mark.parametrize(
    "flags",
    [
        ["--scheduler", "step"],
        ["--scheduler", "none"],
        ["--warmup-epochs", "0"],
        ["--epochs", "1"],
        ["--epochs", "1", *SCRATCH],
        ["--lr-final", "0.1"],
        ["--image-size", "32", *SCRATCH],
        ["--compile", *SCRATCH],
        ["--mix", "none", "--epochs", "60", *SCRATCH],
        ["--mix-share", "0.3", "--epochs", "60", *SCRATCH],
        ["--grow-from", "1", *SCRATCH],
        ["--freeze-backbone"],
        ["--optimizer", "sgd"],
    ],
)
def test_a_recipe_fits_every_run(flags):
    args = resolve(training_options([*MODERN_RUN, *flags]), ONE, None)
    assert args.recipe == "modern" and args.warmup_epochs < args.epochs


def test_several_labels_per_photo_get_no_label_smoothing(tmp_path, photos):
    (tmp_path / "labels.csv").write_text(TABLE)
    args = training_options([*MODERN_RUN, "--data", str(tmp_path)])
    assert (args.label_smoothing, args.origin["label_smoothing"]) == (0, "recipe")
    several = PhotoTable(tmp_path, "training", None)
    objective = build_objective(several, label_smoothing=args.label_smoothing, balanced=False, device=ONE.device)
    assert objective.task == "multi-label"
    args = training_options([*MODERN_RUN, "--data", str(photos({"a": 1}))])
    assert args.label_smoothing > 0


def test_every_value_that_is_not_a_default_says_where_it_came_from():
    args = training_options([*MODERN_RUN, "--lr", "0.01", "--epochs", "20", *SCRATCH])
    assert (args.origin["lr"], args.origin["epochs"], args.origin["recipe"]) == ("command line",) * 3
    assert args.origin["optimizer"] == "recipe" and "seed" not in args.origin
    assert training_options(["--epochs", "20"]).origin == {"epochs": "command line"}  # its default, and named
    assert training_options(["--local-rank", "0"]).origin == {}


def test_the_model_card_says_it_too(tmp_path):
    loader = SimpleNamespace(
        dataset=SimpleNamespace(classes=["a", "b"], labels=np.zeros(4, np.int64), fingerprint=lambda: ""),
        batch_sampler=GlobalBatchSampler(4, 2),
    )
    run = make_run(nn.Linear(1, 1), loader, tmp_path, flags=[*MODERN_RUN, "--lr", "0.01"])
    run.history.append({"epoch": 1, "val_loss": 1.0, "val_acc": 0.5})
    training = run.write_card()["training"]
    assert json.loads((tmp_path / "food_classifier.json").read_text())["training"] == training
    assert (training["recipe"], training["lr"], training["optimizer"]) == ("modern", 0.01, "adamw")
    assert (training["origin"]["lr"], training["origin"]["optimizer"]) == ("command line", "recipe")


def test_a_run_of_the_recipe_goes_on_with_its_values_named():
    args = training_options([*MODERN_RUN, *SCRATCH])
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in different(*SCRATCH).items()]
    before, now = (vars(resolve(some, ONE, None)) for some in (args, training_options([*flags, *SCRATCH])))
    check_same_run(before, now)


def test_help_lists_all_that_the_recipe_sets(capsys):
    with pytest.raises(SystemExit):
        training_options(["--help"])
    words = capsys.readouterr().out.partition("--recipe modern, ")[2].split()
    for part in MODERN:
        for name, value in part.values.items():
            flag = f"--{name.replace('_', '-')}"
            assert [flag, str(value)] in [words[at : at + 2] for at, word in enumerate(words) if word == flag]


def test_the_page_of_recipes_has_the_same_table():
    rows = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8").splitlines()
    for part in MODERN:
        flags = (f"`--{name.replace('_', '-')} {value}`" for name, value in part.values.items())
        assert f"| {part.runs} | {' '.join(flags)} |" in rows
