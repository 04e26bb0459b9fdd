"""Export a trained model to one file, ONNX or torch.export: uint8 pixels in, probabilities out, metadata included.

The exported model normalises the pixels itself. The user only decodes a photo and resizes it to a square.
"""

import importlib.util
import io
import json
import os
import platform
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pyimagesearch import __version__
from pyimagesearch.data.datasets import open_split
from pyimagesearch.data.transforms import normalize, to_device
from pyimagesearch.models.model_card import transform_of
from pyimagesearch.models.objectives import objective_of
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.files import atomic_write, refuse_unwritable

NEEDS = {".onnx": ("onnx", "onnxscript"), ".pt2": ()}  # the packages that each format needs
CHECKED = (1, 3)  # batch sizes of drawn photos on which an export is compared with the model
PHOTOS = 8  # of validation on which it is compared too; onnx's own evaluator takes seconds for each
TOLERANCE = 1e-4  # of a probability: a hundred times the effect of the order of float32 sums
LARGEST = 2**31 - 2**20  # bytes: an .onnx file is one protobuf message


class PixelsToProbabilities(nn.Module):
    """A classifier with normalisation before it, and softmax or sigmoid after it."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, card: dict):
        super().__init__()
        self.model, self.objective = model, objective_of(card)
        channels = card.get("channels", 3)
        black, white = (normalize(torch.full((channels, 1, 1), level, dtype=torch.uint8)) for level in (0, 255))
        self.register_buffer("scale", (white - black) / 255)
        self.register_buffer("shift", black)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 of shape (rows, channels, size, size) to float32 probabilities of shape (rows, classes)."""
        return self.objective.probabilities(self.model(pixels.float() * self.scale + self.shift))


def check_possible(path: str) -> None:
    """Raise UserError if `path` has another suffix or cannot be written, or a package is missing."""
    suffix = os.path.splitext(path)[1]
    if suffix not in NEEDS:
        raise UserError(f"cannot export to {path!r}; name a file that ends in .onnx or .pt2 (torch.export)")
    if absent := [name for name in NEEDS[suffix] if not installed(name)]:
        raise UserError(f"{suffix} needs {' and '.join(absent)}: pip install {' '.join(absent)}, or export .pt2")
    refuse_unwritable(path)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def validation_photos(card: dict, data: str) -> list[Tensor]:
    """Evenly chosen photos of validation, transformed, from the dataset `data`; none if it is not that of the model."""
    try:
        fold = card["training"].get("fold")
        dataset = open_split(os.path.join(data, "validation"), transform_of(card), classes=card["classes"], fold=fold)
        return [dataset[index][0] for index in range(0, len(dataset), -(-len(dataset) // PHOTOS))]
    except (UserError, OSError):
        return []


def export_model(model: nn.Module, card: dict, path: str, photos: Sequence[Tensor] = ()) -> str:
    """Export `model`, on the CPU, to `path`, which ends in .onnx or .pt2, if it gives the original's probabilities.

    The model computes in float32 from then on. Returns a summary: input, output, and the difference found.

    photos : see validation_photos; the probabilities are compared on them and on drawn ones
    """
    check_possible(path)
    model.amp_dtype = None  # type: ignore[assignment]
    channels, size = card.get("channels", 3), card["image_size"]
    whole = PixelsToProbabilities(model.eval(), card)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns of its own deprecations
        content, run, checked_with = (_to_onnx if path.endswith(".onnx") else _to_pt2)(whole, card)
    transform = transform_of(card)
    batches = [torch.stack([transform(photo) for photo in draw_photos(rows)]) for rows in CHECKED]
    batches += [torch.stack(list(photos))] if photos else []
    difference = float(np.max([_difference(run, model, card, images) for images in batches]))
    if not difference <= TOLERANCE:  # NaN is not
        raise UserError(f"{path} was not written: its probabilities differ from the model's by up to {difference:.1e}")
    with atomic_write(path) as file:
        file.write(content)
    return (
        f"uint8 pixels (batch, {channels}, {size}, {size}) to probabilities (batch, {len(card['classes'])}); they "
        f"differ from the model's by at most {difference:.1e}, checked with {checked_with} on batches of "
        f"{' and '.join(map(str, CHECKED))} drawn photos" + f" and on {len(photos)} of validation" * bool(photos)
    )


def export_metadata(card: dict) -> dict:
    """What the file says about itself: how a photo becomes the input, what the output is, which versions wrote it."""
    channels, size = card.get("channels", 3), card["image_size"]
    kept = ("architecture", "classes", "image_size", "mean", "std", "thresholds", "temperature", "metrics")
    return {
        "input": f"pixels: uint8 (batch, {channels}, {size}, {size}), {'RGB' if channels == 3 else 'grey'}, 0 to 255",
        "resize": f"the whole photo, upright, squeezed to {size} x {size} pixels: bilinear with antialiasing",
        "normalization": "in the model: (pixels / 255 - mean) / std",
        "output": "probabilities: float32 (batch, classes), in the order of the classes",
        "task": card.get("task", "single-label"),
        "channels": channels,
        **{name: card[name] for name in kept if name in card},
        "versions": {"pyimagesearch": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def _to_onnx(model: nn.Module, card: dict) -> tuple[bytes, Callable[[np.ndarray], np.ndarray], str]:
    """The ONNX file's content, a function that runs it, and the name of the runtime."""
    if (size := sum(tensor.nbytes for tensor in model.state_dict().values())) > LARGEST:
        raise UserError(f"{size:,} bytes of weights are more than an .onnx file holds; export .pt2")
    program: Any = torch.onnx.export(
        model, _example(card), dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False, input_names=["pixels"],
        output_names=["probabilities"],
    )  # fmt: skip
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del part.metadata_props[:]  # source files of this machine
    for name, value in export_metadata(card).items():
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


def _to_pt2(model: nn.Module, card: dict) -> tuple[bytes, Callable[[np.ndarray], np.ndarray], str]:
    """The torch.export archive's content, a function that runs it, and the name of the runtime."""
    program = torch.export.export(model, _example(card), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for part in program.graph_module.modules():  # an autocast block is a separate graph
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # source files of this machine
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={"facts.json": json.dumps(export_metadata(card), indent=2)})
    loaded = torch.export.load(io.BytesIO(archive.getvalue())).module()
    return archive.getvalue(), lambda pixels: loaded(torch.from_numpy(pixels)).detach().numpy(), "torch"


def _example(card: dict) -> tuple[Tensor]:
    """Arguments that show the exporters the shapes. They would treat a batch size of 1 as constant."""
    return (torch.zeros(2, card.get("channels", 3), card["image_size"], card["image_size"], dtype=torch.uint8),)


def _difference(run: Callable[[np.ndarray], np.ndarray], model: nn.Module, card: dict, images: Tensor) -> float:
    """The largest difference between the probabilities of `run` and `model` on `images`, transformed photos."""
    with torch.inference_mode():
        seen, _ = to_device(images, torch.empty(0), torch.device("cpu"))
        expected = objective_of(card).probabilities(model(seen)).numpy()
    return float(np.abs(run(images.contiguous().numpy()) - expected).max())


def draw_photos(count: int) -> list[Image.Image]:
    """RGB images of random sizes with soft spots of all colours, which vary as photos do."""
    rng = np.random.default_rng(count)
    photos = []
    for _ in range(count):
        (height, width), spots = rng.integers(40, 400, 2).tolist(), rng.integers(2, 16, 2)
        coarse = Image.fromarray(rng.integers(0, 256, (*spots, 3)).astype(np.uint8))
        photos.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return photos
