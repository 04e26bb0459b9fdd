"""Predict what photos show, with the trained classifier.

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
from pyimagesearch.runtime import errors, launcher, terminal


def main() -> None:
    args = inference_options()  # before the imports that take seconds
    terminal.quiet = args.quiet
    launcher.end_with_launcher()
    from pyimagesearch.evaluation.predict import check_top_k, load_trained
    from pyimagesearch.runtime import distributed
    from pyimagesearch.runtime.files import refuse_unwritable

    with distributed.started() as launch:
        distributed.check_same_start(args)
        if args.export is not None:
            return export_trained(args)
        terminal.info(f"number of GPUs found: {launch.gpus}...")
        trained = load_trained(args.output, launch, args.amp, tta=args.tta)
        with distributed.failing_together():
            check_top_k(args.top_k, trained.card, args.min_confidence)
            if args.csv is not None and distributed.is_main():
                refuse_unwritable(args.csv)
        workers = distributed.cores_of_rank() if args.workers is None else args.workers
        if args.images:
            predict_images(args, trained, workers)
        elif args.on:
            evaluate_split(args, trained, workers)
        elif distributed.is_main():
            show_random_photos(args, trained, launch)


def show_random_photos(args, trained, launch) -> None:
    """Predict random photos of the test split and draw them with their true classes."""
    from pyimagesearch.evaluation.predict import predict_random, with_answers
    from pyimagesearch.evaluation.prediction_output import draw_results

    count = args.count or config.PRED_BATCH_SIZE * launch.devices
    predictions, truths, photos = predict_random(trained, args.data, count, args.seed)
    predictions = with_answers(predictions, args.min_confidence)
    draw_results(os.path.join(args.output, "results.png"), predictions, truths, photos)


def predict_images(args, trained, workers: int) -> None:
    """Predict the photos that were named; all ranks share the work, rank 0 prints and writes."""
    from pyimagesearch.evaluation import prediction_output
    from pyimagesearch.evaluation.predict import list_photos, predict_photos, with_answers
    from pyimagesearch.models.model_card import thresholds_of
    from pyimagesearch.runtime import distributed
    from pyimagesearch.runtime.files import refuse_unwritable

    with distributed.failing_together():
        paths = list_photos(args.images)
        if args.pages and distributed.is_main():
            refuse_unwritable(prediction_output.page_path(args.output))
    distributed.check_same({"the number of photos": len(paths)})
    with terminal.make_bar("photos", len(paths)) as bar:
        predictions = predict_photos(trained, paths, top_k=args.top_k, workers=workers, bar=bar)
    if not distributed.is_main():
        return
    predictions = with_answers(predictions, args.min_confidence)
    prediction_output.print_predictions(predictions, args.top_k, args.csv)
    if args.csv is not None:
        labels = trained.card["classes"] if thresholds_of(trained.card) else ()
        prediction_output.write_predictions(args.csv, predictions, args.top_k, labels=labels)
    if args.pages:
        print(prediction_output.draw_pages(args.output, predictions, args.pages))


def evaluate_split(args, trained, workers: int) -> None:
    """Print the report on a whole split, as at the end of training; the same for any number of processes."""
    from pyimagesearch.data.datasets import truths_of
    from pyimagesearch.evaluation import evaluate, metrics, prediction_output
    from pyimagesearch.evaluation.predict import UNSURE, open_split_of_model, predictions_of, with_answers
    from pyimagesearch.models.model_card import thresholds_of
    from pyimagesearch.models.objectives import objective_of
    from pyimagesearch.runtime import distributed

    dataset, loader = open_split_of_model(trained, args.data, args.on, workers)
    objective = objective_of(trained.card)
    probabilities, _ = evaluate.predict_split(trained.model, loader, objective, mirrored=trained.tta)
    if not distributed.is_main():
        return
    classes, thresholds = trained.card["classes"], thresholds_of(trained.card)
    print(metrics.classification_report(dataset.labels, probabilities, classes, thresholds)[0])
    if thresholds is None:
        print(prediction_output.confusion_table(dataset.labels, probabilities.argmax(axis=1), classes))
    predictions = predictions_of(map(dataset.path, range(len(dataset))), probabilities, trained.card, args.top_k)
    predictions, truths = with_answers(predictions, args.min_confidence), truths_of(dataset.labels, classes)
    if args.csv is not None:
        prediction_output.write_predictions(args.csv, predictions, args.top_k, truths, classes if thresholds else ())
    if args.top_k > 1:
        named = sum(truth in one.classes for truth, one in zip(truths, predictions, strict=True))
        print(f"[INFO] {args.on} accuracy of the {args.top_k} most probable classes {named / len(dataset):.4f}")
    if args.min_confidence is not None:
        right = [one.answer == truth for one, truth in zip(predictions, truths, strict=True) if one.answer != UNSURE]
        among = f", accuracy among them {sum(right) / len(right):.4f}" if right else ""
        print(f"[INFO] {args.on} photos with an answer {len(right):,} of {len(dataset):,}{among}")
    print(f"[INFO] {args.on} accuracy {metrics.accuracy(dataset.labels, probabilities):.4f} of {len(dataset):,} photos")


def export_trained(args) -> None:
    """Write the trained model as one file for other programs, compared with this one."""
    from pyimagesearch.food_classifier import load_classifier
    from pyimagesearch.models import export
    from pyimagesearch.models.model_card import model_path, read_model_card
    from pyimagesearch.runtime import distributed

    with distributed.failing_together():
        if distributed.is_main():
            export.check_possible(args.export)
            card = read_model_card(args.output)
            terminal.info("exporting the model...")
            model, photos = load_classifier(model_path(args.output), card), export.validation_photos(card, args.data)
            done = export.export_model(model, card, args.export, photos)
            print(f"[INFO] {errors.one_line(args.export)}: {done}")


if __name__ == "__main__":
    errors.run(main)
