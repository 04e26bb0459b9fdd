"""Show what the trained classifier says of photos.

python distributed_inference.py                                          # a few of the test split: results.png
python distributed_inference.py --seed 1 --count 12
python distributed_inference.py --on test                                # all of it: the report of training
python distributed_inference.py --images photos/ --top-k 3 --csv predictions.csv   # your own
python distributed_inference.py --export model.onnx                      # for programs without this one
torchrun --standalone --nproc-per-node=gpu distributed_inference.py --images photos/ --csv predictions.csv
"""

import os

from pyimagesearch import config
from pyimagesearch.evaluation.options import inference_options
from pyimagesearch.runtime import errors, terminal


def main() -> None:
    args = inference_options()  # before the imports that take seconds
    terminal.quiet = args.quiet
    from pyimagesearch.evaluation.predict import load_trained
    from pyimagesearch.runtime import distributed

    with distributed.started() as launch:
        if args.export is not None:
            export_model(args)
            return
        terminal.info(f"number of GPUs found: {launch.gpus}...")
        trained = load_trained(args.output, launch, args.amp)
        if args.images:
            predict_images(args, trained)
        elif args.on:
            evaluate_split(args, trained)
        elif distributed.is_main():
            show_random_batch(args, trained, launch)


def show_random_batch(args, trained, launch) -> None:
    """Draw a random batch of the test split, denormalized, with truth, prediction and confidence."""
    import numpy as np
    from torch.utils.data import default_collate

    from pyimagesearch.data.datasets import open_split, truths_of
    from pyimagesearch.data.transforms import denormalize, to_device
    from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions
    from pyimagesearch.evaluation.predict import predict_batch
    from pyimagesearch.evaluation.prediction_output import captions
    from pyimagesearch.models.model_card import transform_of

    fold = trained.facts.get("training", {}).get("fold")
    testDS = open_split(os.path.join(args.data, "evaluation"), transform_of(trained.facts), fold=fold)
    count = min(args.count or config.PRED_BATCH_SIZE * launch.devices, len(testDS))
    terminal.info(f"using a batch size of {count}...")
    chosen = np.random.default_rng(args.seed).choice(len(testDS), count, replace=False)
    images, labels = default_collate([testDS[int(index)] for index in chosen])
    images, labels = to_device(images, labels, trained.device)

    prediction_output = predict_batch(trained, [testDS.path(int(index)) for index in chosen], images)
    truths = truths_of(labels.cpu().numpy(), testDS.classes)
    for truth, one in zip(truths, prediction_output, strict=True):
        print(f"{errors.one_line(one.path)}: Ground Truth: {truth}, Predicted: {one.said}")

    results = os.path.join(args.output, "results.png")
    names, confidences = captions(prediction_output)
    right = sum(truth == name for truth, name in zip(truths, names, strict=True))
    print(f"[INFO] {right} of {count} right: {results}", flush=True)
    plot_predictions(results, denormalize(images), truths, names, confidences, show=True)


def predict_images(args, trained) -> None:
    """Say of each photo that the person named what it shows; all ranks share the work and rank 0 tells."""
    from pyimagesearch.evaluation import prediction_output
    from pyimagesearch.evaluation.predict import check_top_k, list_photos, predict_photos
    from pyimagesearch.models.model_card import thresholds_of
    from pyimagesearch.runtime import distributed
    from pyimagesearch.runtime.files import refuse_unwritable
    from pyimagesearch.runtime.terminal import make_bar

    with distributed.failing_together():
        check_top_k(args.top_k, trained.facts)
        paths = list_photos(args.images)
        if distributed.is_main():
            if args.csv is not None:
                refuse_unwritable(args.csv)
            if args.pages:
                refuse_unwritable(prediction_output.page_path(args.output))
    workers = distributed.cores_of_rank() if args.workers is None else args.workers
    with make_bar("photos", len(paths)) as bar:
        found = predict_photos(trained, paths, top_k=args.top_k, workers=workers, after_batch=bar.update)
    if not distributed.is_main():
        return
    shown = found if args.csv is None else found[: prediction_output.ROWS]
    print(prediction_output.prediction_table(shown, args.top_k))
    if len(shown) < len(found):
        print(f"and {len(found) - len(shown):,} more")
    unreadable = sum(bool(one.error) for one in found)
    print(f"[INFO] {len(found):,} photos" + (f", {unreadable:,} of them unreadable" if unreadable else ""), flush=True)
    if args.csv is not None:
        labels = trained.facts["classes"] if thresholds_of(trained.facts) else None
        prediction_output.write_predictions(args.csv, found, args.top_k, labels=labels)
        print(f"[INFO] predictions: {errors.one_line(args.csv)}", flush=True)
    if args.pages:
        print(prediction_output.draw_pages(args.output, found, args.pages))


def evaluate_split(args, trained) -> None:
    """Report on a whole split, as training does at its end on the test split; the same for any number of processes."""
    import torch

    from pyimagesearch.data.datasets import truths_of
    from pyimagesearch.evaluation import evaluate, metrics, prediction_output
    from pyimagesearch.evaluation.predict import check_top_k, open_split_of_model, predictions_of
    from pyimagesearch.models.model_card import thresholds_of
    from pyimagesearch.models.objectives import objective_of
    from pyimagesearch.runtime import distributed
    from pyimagesearch.runtime.files import refuse_unwritable
    from pyimagesearch.runtime.terminal import make_bar

    classes, thresholds = trained.facts["classes"], thresholds_of(trained.facts)
    objective = objective_of(trained.facts)
    workers = distributed.cores_of_rank() if args.workers is None else args.workers
    with distributed.failing_together():
        check_top_k(args.top_k, trained.facts)
        if args.csv is not None and distributed.is_main():
            refuse_unwritable(args.csv)
    dataset, loader = open_split_of_model(trained, args.data, args.on, workers)
    with make_bar(args.on, len(dataset)) as bar:
        probabilities, _ = evaluate.predict_split(trained.model, loader, trained.device, bar.update, objective)
    if not distributed.is_main():
        return
    paths = [dataset.path(index) for index in range(len(dataset))]
    found = predictions_of(paths, probabilities, classes, args.top_k, thresholds)
    truths = truths_of(dataset.labels, classes)
    if thresholds:
        print(metrics.label_report_table(metrics.measure_labels(dataset.labels, probabilities, classes, thresholds)))
    else:
        preds = probabilities.argmax(axis=1)
        print(metrics.report_text(dataset.labels, preds, classes))
        print(prediction_output.confusion_table(dataset.labels, preds, classes))
    if args.csv is not None:
        prediction_output.write_predictions(args.csv, found, args.top_k, truths, classes if thresholds else None)
        print(f"[INFO] predictions: {errors.one_line(args.csv)}")
    if args.top_k > 1:
        named = sum(truth in one.classes for truth, one in zip(truths, found, strict=True))
        print(f"[INFO] {args.on} accuracy of the {args.top_k} likeliest classes {named / len(found):.4f}")
    right = objective.correct(torch.from_numpy(probabilities), torch.from_numpy(dataset.labels)).double().mean()
    print(f"[INFO] {args.on} accuracy {float(right):.4f} of {len(found):,} photos")


def export_model(args) -> None:
    """Write the trained model as one file that other programs run, checked against this one."""
    from pyimagesearch.food_classifier import load_classifier
    from pyimagesearch.models import export
    from pyimagesearch.models.model_card import model_path, read_model_card
    from pyimagesearch.runtime import distributed

    with distributed.failing_together():
        if distributed.is_main():
            export.check_possible(args.export)
            facts = read_model_card(args.output)
            terminal.info("exporting the model...")
            done = export.export_model(load_classifier(model_path(args.output), facts), facts, args.export)
            print(f"[INFO] {errors.one_line(args.export)}: {done}")


if __name__ == "__main__":
    errors.run(main)
