"""TODO models.model_card"""

import json
import math
import os

import torch

from pyimagesearch import config
from pyimagesearch.data.transforms import SquareTransform, eval_transform
from pyimagesearch.runtime.errors import UserError


def amp_of_training(facts: dict, device: torch.device) -> str:
    """What a model was trained in, as the flag says it; "auto" where that does not suit the device, or nobody knows."""
    trained_in = facts.get("training", {}).get("amp")
    if trained_in == str(torch.bfloat16) and device.type == "cuda":
        return "bf16"  # float16, which "auto" takes there, has less range
    return "off" if trained_in == str(None) else "auto"


def transform_of(facts: dict) -> SquareTransform:
    """What makes pixels for the model of any photo."""
    return eval_transform(facts["image_size"], facts.get("channels", 3))


def thresholds_of(facts: dict) -> list[float] | None:
    """From which probability on a photo is said to have each label; None for a model of one class a photo."""
    if facts.get("task") != "multi-label":
        return None
    return facts.get("thresholds") or [0.5] * len(facts["classes"])  # of a run that is not finished


LARGEST_IMAGE = 4096  # pixels, as the flag --image-size has it


def _finite(value: float | None) -> float | None:
    """`value`, or None, which JSON can say, of what is infinite or not a number."""
    return value if value is None or math.isfinite(value) else None


def model_path(output: str) -> str:
    return os.path.join(output, os.path.basename(config.MODEL_PATH))


def card_path(output: str) -> str:
    return os.path.splitext(model_path(output))[0] + ".json"


def read_model_card(output: str) -> dict:
    """What the .json beside the trained model in the folder `output` says.

    Raises
    ------
    UserError : there is no trained model, or its .json is damaged
    """
    if not os.path.exists(model_path(output)):
        raise UserError(
            f"no trained model at {model_path(output)}; run train_distributed.py first, or name its --output"
        )
    path = card_path(output)
    try:
        with open(path, encoding="utf-8") as file:
            facts = json.load(file)
        classes, size = facts["classes"], facts["image_size"]
        named = isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)
        if named and isinstance(facts["architecture"], str) and isinstance(size, int) and 0 < size <= LARGEST_IMAGE:
            return facts
        raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{path} is missing or damaged; expected the classes, architecture and image_size that training wrote "
            "there: train again, or put it back"
        ) from None
