"""The trained model as one file that travels: uint8 pixels in, probabilities out, all that a user must know inside.

Normalisation is part of it, so what is left to the user is to decode a photo and squeeze it to a square.
"""

import importlib.util
import io
import json
import os
import platform
import warnings
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pyimagesearch import __version__
from pyimagesearch.data.transforms import normalize, to_device
from pyimagesearch.food_classifier import FoodClassifier
from pyimagesearch.models.model_card import transform_of
from pyimagesearch.models.objectives import objective_of
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.files import atomic_write, refuse_unwritable

NEEDS = {".onnx": ("onnx", "onnxscript"), ".pt2": ()}  # packages, by the suffixes of the two formats
CHECKED = (1, 3)  # the sizes of the batches on which an export is compared with the model
TOLERANCE = 1e-4  # of a probability: a hundred times what the order of float32 sums changes
LARGEST = 2**31 - 2**20  # bytes: an .onnx file is one protobuf message


class PixelsToProbabilities(nn.Module):
    """A classifier with what comes before and after it: normalisation, and softmax or, of several labels, sigmoid.

    facts : of the model, see run.read_facts
    """

    def __init__(self, model: FoodClassifier, facts: dict):
        super().__init__()
        self.model, self.objective = model, objective_of(facts)
        channels = facts.get("channels", 3)
        black, white = (normalize(torch.full((channels, 1, 1), level, dtype=torch.uint8)) for level in (0, 255))
        self.register_buffer("scale", (white - black) / 255)
        self.register_buffer("shift", black)

    def forward(self, pixels: Tensor) -> Tensor:
        """Probabilities, float32 of shape (rows, classes), of photos, uint8 of shape (rows, channels, size, size)."""
        return self.objective.probabilities(self.model(pixels.float() * self.scale + self.shift))


def check_possible(path: str) -> None:
    """Raise UserError where the model cannot be exported to `path`: another suffix, no package for it, no place."""
    suffix = os.path.splitext(path)[1]
    if suffix not in NEEDS:
        raise UserError(f"cannot export to {path!r}: a name that ends in .onnx or .pt2 (torch.export) says the format")
    if absent := [name for name in NEEDS[suffix] if not installed(name)]:
        raise UserError(
            f"to write {suffix} needs {' and '.join(absent)}: pip install {' '.join(absent)}, or export .pt2"
        )
    refuse_unwritable(path)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def export_model(model: FoodClassifier, facts: dict, path: str) -> str:
    """Write `model`, whole or not at all, after it was compared with the original on drawn photos, in float32.

    Parameters
    ----------
    model : on the CPU; changed to compute in float32
    facts : of the model, see run.read_facts
    path : ends in .onnx or .pt2

    Returns
    -------
    what it takes, what it gives, and how far its probabilities were from the original's, for a person

    Raises
    ------
    UserError : what check_possible says; or the exported model does not give the original's probabilities
    """
    check_possible(path)
    model.amp_dtype = None
    channels, size = facts.get("channels", 3), facts["image_size"]
    whole = PixelsToProbabilities(model.eval(), facts)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's own deprecations
        content, run, checked_with = (_to_onnx if path.endswith(".onnx") else _to_pt2)(whole, facts)
    difference = float(np.max([_difference(run, model, facts, rows) for rows in CHECKED]))
    if not difference <= TOLERANCE:  # NaN is not
        raise UserError(f"{path} was not written: its probabilities differ from the model's by up to {difference:.1e}")
    with atomic_write(path) as file:
        file.write(content)
    return (
        f"uint8 pixels (batch, {channels}, {size}, {size}) to probabilities (batch, {len(facts['classes'])}); they "
        f"differ from the model's by at most {difference:.1e}, checked with {checked_with} on batches of "
        f"{' and '.join(map(str, CHECKED))}"
    )


def export_metadata(facts: dict) -> dict:
    """What the file says of itself: how a photo becomes the input, what the output is, what it was made with."""
    channels, size = facts.get("channels", 3), facts["image_size"]
    kept = ("architecture", "classes", "image_size", "mean", "std", "thresholds", "metrics")
    return {
        "input": f"pixels: uint8 (batch, {channels}, {size}, {size}), {'RGB' if channels == 3 else 'grey'}, 0 to 255",
        "resize": f"the whole photo, upright, squeezed to {size} x {size} pixels: bilinear with antialiasing",
        "normalization": "in the model: (pixels / 255 - mean) / std",
        "output": "probabilities: float32 (batch, classes), in the order of the classes",
        "task": facts.get("task", "single-label"),
        "channels": channels,
        **{name: facts[name] for name in kept if name in facts},
        "versions": {"pyimagesearch": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


# --- the two formats -------------------------------------------------------------------------------------------------


def _to_onnx(model: nn.Module, facts: dict) -> tuple[bytes, Callable[[np.ndarray], np.ndarray], str]:
    """The model as ONNX, a function that runs it, and the name of what runs it."""
    if (size := sum(tensor.nbytes for tensor in model.state_dict().values())) > LARGEST:
        raise UserError(f"{size:,} bytes of weights are more than an .onnx file holds; export .pt2")
    program = torch.onnx.export(
        model, _example(facts), dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False, input_names=["pixels"],
        output_names=["probabilities"],
    )  # fmt: skip
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del part.metadata_props[:]  # where in this machine's files each step was written
    for name, value in export_metadata(facts).items():
        proto.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    content = proto.SerializeToString()
    if installed("onnxruntime"):
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        checked_with = "onnxruntime"
    else:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(proto)
        checked_with = "onnx's reference evaluator"
    return content, lambda pixels: session.run(None, {"pixels": pixels})[0], checked_with


def _to_pt2(model: nn.Module, facts: dict) -> tuple[bytes, Callable[[np.ndarray], np.ndarray], str]:
    """The model as an archive of torch.export, a function that runs it, and the name of what runs it."""
    program = torch.export.export(model, _example(facts), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for part in program.graph_module.modules():  # autocast's block is a graph of its own
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # where in this machine's files each step was written
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={"facts.json": json.dumps(export_metadata(facts), indent=2)})
    loaded = torch.export.load(io.BytesIO(archive.getvalue())).module()
    return archive.getvalue(), lambda pixels: loaded(torch.from_numpy(pixels)).detach().numpy(), "torch"


def _example(facts: dict) -> tuple[Tensor]:
    """Arguments from which the exporters learn the shapes; a batch of 1 they would take for the only one."""
    return (torch.zeros(2, facts.get("channels", 3), facts["image_size"], facts["image_size"], dtype=torch.uint8),)


# --- the check -------------------------------------------------------------------------------------------------------


def _difference(run: Callable[[np.ndarray], np.ndarray], model: nn.Module, facts: dict, rows: int) -> float:
    """The largest difference of a probability between `run` and `model` on a batch of drawn photos."""
    transform = transform_of(facts)
    images = torch.stack([transform(photo) for photo in draw_photos(rows)])
    with torch.inference_mode():
        seen, _ = to_device(images, torch.empty(0), torch.device("cpu"))
        expected = objective_of(facts).probabilities(model(seen)).numpy()
    return float(np.abs(run(images.contiguous().numpy()) - expected).max())


def draw_photos(count: int) -> list[Image.Image]:
    """Photos of no thing, RGB of random sizes: soft spots of all colours, which differ as photos do."""
    rng = np.random.default_rng(count)
    photos = []
    for _ in range(count):
        (height, width), spots = rng.integers(40, 400, 2).tolist(), rng.integers(2, 16, 2)
        coarse = Image.fromarray(rng.integers(0, 256, (*spots, 3)).astype(np.uint8))
        photos.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return photos
