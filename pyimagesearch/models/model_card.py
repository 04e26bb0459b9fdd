"""The model card: the record beside the trained weights, food_classifier.json. Written, read and interpreted here.

A dictionary: architecture, channels, classes, image_size, value_range (black and white in grey photos of more than 8
bits), mean, std, task, thresholds (several labels per photo), temperature (if calibrated), metrics, training (the run
config: every resolved flag, and under "origin" what set those that are not defaults), versions.
"""

import json
import math
import os
import platform
from collections.abc import Mapping

import numpy as np
import torch
import torchvision

from pyimagesearch import config
from pyimagesearch.data.transforms import SquareTransform, eval_transform
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.files import write_json

LARGEST_IMAGE = 4096  # pixels, the limit of --image-size
# the run config of earlier versions, where it was not the flag's name with blanks
FORMER_NAMES = {"global batch": "global_batch_size", "learning rate": "lr", "training photos (fingerprint)": "photos",
                "warm-up epochs": "warmup_epochs"}  # fmt: skip
FORMER_AMP = {"torch.float16": "fp16", "torch.bfloat16": "bf16", "None": "off"}


def model_path(output: str) -> str:
    return os.path.join(output, os.path.basename(config.MODEL_PATH))


def card_path(output: str) -> str:
    return os.path.splitext(model_path(output))[0] + ".json"


def write_model_card(
    output: str, run_config: Mapping, task: str, metrics: Mapping, thresholds: list[float] | None = None,
    temperature: float | list[float] | None = None,
) -> dict:  # fmt: skip
    """Write and return the card of the model in the folder `output`.

    metrics : numbers; what is not finite becomes None, which JSON can say
    thresholds : of several labels per photo, the probability per class from which on a photo has it
    temperature : see objectives, of several labels per photo one for each
    """
    fitted = {"thresholds": thresholds, "temperature": temperature}
    card = {
        "architecture": run_config["model"],
        "channels": run_config["channels"],
        "classes": run_config["classes"],
        "image_size": run_config["image_size"],
        "value_range": run_config.get("value_range"),
        "mean": config.MEAN,
        "std": config.STD,
        "task": task,
        **{name: value for name, value in fitted.items() if value is not None},
        "metrics": {k: None if v is None or not math.isfinite(v) else v for k, v in metrics.items()},
        "training": {name: value for name, value in run_config.items() if name not in ("classes", "run_id")},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
    write_json(card_path(output), card)
    return card


def read_model_card(output: str) -> dict:
    """The card of the trained model in the folder `output`, checked."""
    if not os.path.exists(model_path(output)):
        raise UserError(
            f"no trained model at {model_path(output)}; run train_distributed.py first, or name its --output"
        )
    path = card_path(output)
    try:
        with open(path, encoding="utf-8") as file:
            card = json.load(file)
        classes, size = card["classes"], card["image_size"]
        named = isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)
        positive = (np.broadcast_to(card.get("temperature", 1.0), len(classes)) > 0).all()
        described = isinstance(card["architecture"], str) and isinstance(size, int) and 0 < size <= LARGEST_IMAGE
        if named and positive and described:
            return {**card, "training": current_names(card.get("training", {}))}
        raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{path} is missing or damaged; expected the classes, architecture and image_size that training wrote "
            "there: train again, or put it back"
        ) from None


def current_names(run_config: Mapping) -> dict:
    """A run config with today's names and values; earlier versions had others."""
    if "global batch" not in run_config:
        return dict(run_config)
    renamed = {
        FORMER_NAMES.get(name, name.replace(" ", "_").replace("-", "_")): value for name, value in run_config.items()
    }
    renamed["amp"] = FORMER_AMP.get(renamed["amp"], "auto")
    if str(renamed.get("scheduler")).startswith("cosine to "):  # "cosine to 0.01 over 20 epochs"
        renamed |= {"scheduler": "cosine", "lr_final": float(renamed["scheduler"].split()[2])}
    return renamed


def transform_of(card: Mapping) -> SquareTransform:
    """What makes the model's input of any photo."""
    found = card.get("value_range")
    return eval_transform(card["image_size"], card.get("channels", 3), tuple(found) if found else None)


def thresholds_of(card: Mapping) -> list[float] | None:
    """The probability per class from which on a photo has the label; None for a model of one class per photo."""
    if card.get("task") != "multi-label":
        return None
    return card.get("thresholds") or [0.5] * len(card["classes"])  # a run that has not ended has none yet
