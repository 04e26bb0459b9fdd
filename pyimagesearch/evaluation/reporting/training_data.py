"""What a model was trained on, for the person to whom it is handed on: counts, source, and the limits seen in them."""

from collections.abc import Iterator, Sequence

import numpy as np

from pyimagesearch.evaluation.reporting.label_issues import LabelIssues
from pyimagesearch.preparation.source import SplitPlan, first_few, plan_flags
from pyimagesearch.preparation.staging import read_marker

FEW_TRAINED, FEW_TESTED = 50, 20  # photos of a class; fewer are named as a limit


def data_facts(folder: str) -> dict[str, str]:
    """What prepared.json records of the dataset in `folder`, as the page shows it."""
    marker = read_marker(folder)
    if marker is None:
        return {"dataset": f"{folder}, not made by prepare_dataset.py"}
    plan = SplitPlan(**marker["drawing"]) if marker.get("drawing") else None
    return {
        "dataset": folder,
        "source": f"{marker['source']}: {marker.get('kind', 'photos')}",
        "splits": plan_flags(plan),
        "near copies": "in one split" if plan and plan.near_copies else "may be in two splits (see --check)",
        "corrected labels": marker.get("corrections") or "none",
    }


def photo_counts(issues: LabelIssues) -> tuple[list, list]:
    """How many photos of each split have each class or label: rows, and the row of all photos."""
    several = issues.datasets[0].labels.ndim > 1
    counts = [
        (data.labels == 1).sum(0) if several else np.bincount(data.labels, minlength=len(data.classes))
        for data in issues.datasets
    ]
    rows = zip(issues.classes, *(column.tolist() for column in counts), strict=True)
    return [*map(list, rows)], [["photos", *(len(data.labels) for data in issues.datasets)]]


def limits(issues: LabelIssues, confusions: Sequence[tuple]) -> Iterator[str]:
    """Sentences on what the data cannot teach or measure; confusions : (truth, prediction, photos, share) of the test."""
    rows, _ = photo_counts(issues)
    for column, least, what in ((1, FEW_TRAINED, "to learn from"), (-1, FEW_TESTED, "to measure it")):
        few = sorted((row[column], row[0]) for row in rows if row[column] < least)
        if few:
            named = ", ".join(first_few([f"{name} ({count})" for count, name in few]))
            yield f"Fewer than {least} photos {what}: {named}."
    if confusions:
        named = "; ".join(f"{share} of {truth} taken for {other}" for truth, other, _, share in confusions[:3])
        yield f"Most often confused on test: {named}."
    yield f"Labels: {issues.found()}."
