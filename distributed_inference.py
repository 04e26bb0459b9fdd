"""Show what the trained classifier says of photos it has not seen.

python distributed_inference.py                                          # a few of the test split: results.png
python distributed_inference.py --seed 1 --count 12
python distributed_inference.py --images photos/ --csv predictions.csv   # your own
torchrun --standalone --nproc-per-node=gpu distributed_inference.py --images photos/ --csv predictions.csv
"""

import os

from pyimagesearch import config, errors
from pyimagesearch.options import inference_options


def main() -> None:
    args = inference_options()  # before the imports that take seconds
    import torch

    from pyimagesearch import distributed, terminal
    from pyimagesearch.food_classifier import amp_dtype, load_classifier
    from pyimagesearch.run import model_path, read_facts

    terminal.quiet = args.quiet
    facts = read_facts(args.output)
    with distributed.started() as launch:
        terminal.info(f"number of GPUs found: {launch.gpus}...")
        # the trained weights alone: nothing is downloaded, and the classes are those the model was trained on
        model = load_classifier(model_path(args.output), facts)
        model.amp_dtype = amp_dtype(args.amp, launch.device)
        model = model.to(launch.device, memory_format=torch.channels_last)
        model = distributed.wrap_for_inference(model, launch).eval()
        if args.images:
            predict_images(args, model, facts, launch)
        elif distributed.is_main():
            show_random_batch(args, model, facts, launch)


def show_random_batch(args, model, facts, launch) -> None:
    """Draw a random batch of the test split, denormalized, with truth, prediction and confidence."""
    import numpy as np
    import torch

    from pyimagesearch import reporting, terminal
    from pyimagesearch.augmentation import denormalize, eval_transform
    from pyimagesearch.photo_dataset import PhotoFolder

    testDS = PhotoFolder(os.path.join(args.data, "evaluation"), eval_transform(facts["image_size"]))
    count = min(args.count or config.PRED_BATCH_SIZE * launch.devices, len(testDS))
    terminal.info(f"using a batch size of {count}...")
    chosen = np.random.default_rng(args.seed).choice(len(testDS), count, replace=False)
    images = torch.stack([testDS[int(index)][0] for index in chosen])
    truths = [testDS.classes[label] for label in testDS.labels[chosen]]

    with torch.inference_mode():
        probabilities = model(images.to(launch.device)).float().softmax(1).cpu()
    confidences, preds = probabilities.max(1)
    predictions = [facts["classes"][index] for index in preds.tolist()]
    for index, truth, prediction, confidence in zip(chosen, truths, predictions, confidences.tolist(), strict=True):
        path = errors.one_line(testDS.path(int(index)))
        print(f"{path}: Ground Truth: {truth}, Predicted: {prediction} ({confidence:.1%})")

    results = os.path.join(args.output, "results.png")
    right = sum(truth == prediction for truth, prediction in zip(truths, predictions, strict=True))
    print(f"[INFO] {right} of {count} right: {results}", flush=True)
    reporting.plot_predictions(results, denormalize(images), truths, predictions, confidences.tolist(), show=True)


def predict_images(args, model, facts, launch) -> None:
    """Say of each photo that the person named what it shows; all ranks share the work and rank 0 tells."""
    from pyimagesearch import distributed
    from pyimagesearch.inference import list_photos, predict_photos, write_predictions
    from pyimagesearch.progress import make_bar

    with distributed.failing_together():
        paths = list_photos(args.images)
    workers = distributed.cores_of_rank() if args.workers is None else args.workers
    with make_bar("photos", len(paths)) as bar:
        predictions = predict_photos(model, paths, facts, launch.device, workers=workers, after_batch=bar.update)
    if not distributed.is_main():
        return
    if args.csv:
        write_predictions(args.csv, predictions)
    else:
        for item in predictions:
            said = item.error or f"{item.prediction} ({item.confidence:.1%})"
            print(f"{errors.one_line(item.path)}: {said}")
    unreadable = sum(bool(item.error) for item in predictions)
    print(
        f"[INFO] {len(predictions)} photos"
        + (f", {unreadable} of them unreadable" if unreadable else "")
        + (f": {args.csv}" if args.csv else "")
    )


if __name__ == "__main__":
    errors.run(main)
