"""What a model was trained on, for the person to whom it is handed on: counts, source, and the limits seen in them."""

from collections.abc import Iterator, Sequence

import numpy as np

from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.preparation.source import SplitPlan, first_few, plan_flags
from pyimagesearch.preparation.staging import read_marker

FEW = 50  # training photos of a class; fewer are named as a limit


def data_facts(folder: str) -> dict[str, str]:
    """What prepared.json records of the dataset in `folder`, as the page shows it."""
    if (made := read_marker(folder)) is None:
        return {"dataset": f"{folder}, which prepare_dataset.py did not make"}
    plan = SplitPlan(**made["drawing"]) if made.get("drawing") else None
    together = "in one split" if plan and plan.near_copies else "not known: prepare_dataset.py --check finds them"
    corrected = made.get("corrections") or "none"
    return {"source": made["source"], "splits": plan_flags(plan), "near copies": together, "corrections": corrected}


def photo_counts(dataset: PhotoDataset) -> list[int]:
    """How many photos have each class or label."""
    several, classes = dataset.labels.ndim > 1, len(dataset.classes)
    return ((dataset.labels == 1).sum(0) if several else np.bincount(dataset.labels, minlength=classes)).tolist()


def limits(trained: PhotoDataset, confusions: Sequence[tuple]) -> Iterator[str]:
    """Sentences on what the photos cannot teach; confusions : (truth, prediction, photos, share) of the test split."""
    counted = sorted(zip(photo_counts(trained), trained.classes, strict=True))
    if few := [f"{name} ({count})" for count, name in counted if count < FEW]:
        yield f"Fewer than {FEW} photos to learn from: {', '.join(first_few(few))}."
    if named := "; ".join(f"{share} of {truth} taken for {other}" for truth, other, _, share in confusions[:3]):
        yield f"Most often confused: {named}."
