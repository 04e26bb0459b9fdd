"""Show what the trained classifier says of photos it has not seen.

    python distributed_inference.py                     # a few of the test split, as output/results.png
    python distributed_inference.py --seed 1 --count 12
"""

import os

from pyimagesearch import config, errors
from pyimagesearch.options import inference_options


def main() -> None:
    args = inference_options()  # before the imports that take seconds
    import numpy as np
    import torch

    from pyimagesearch import distributed, reporting
    from pyimagesearch.augmentation import denormalize, eval_transform
    from pyimagesearch.create_dataloaders import PhotoFolder
    from pyimagesearch.food_classifier import amp_dtype, load_classifier
    from pyimagesearch.run import model_path, read_facts

    facts = read_facts(args.output)
    launch = distributed.start()
    print(f"[INFO] number of GPUs found: {launch.gpus}...")
    testDS = PhotoFolder(os.path.join(args.data, "evaluation"), eval_transform(facts["image_size"]))
    count = min(args.count or config.PRED_BATCH_SIZE * launch.devices, len(testDS))
    print(f"[INFO] using a batch size of {count}...")

    # the trained weights alone: nothing is downloaded, and the classes are those the model was trained on
    model = load_classifier(model_path(args.output), facts)
    model.amp_dtype = amp_dtype(args.amp, launch.device)
    model = distributed.wrap(model.to(launch.device, memory_format=torch.channels_last), launch).eval()

    # a random batch of the test split
    chosen = np.random.default_rng(args.seed).choice(len(testDS), count, replace=False)
    images = torch.stack([testDS[int(index)][0] for index in chosen])
    truths = [testDS.classes[label] for label in testDS.labels[chosen]]

    with torch.inference_mode():
        probabilities = model(images.to(launch.device)).float().softmax(1).cpu()
    confidences, preds = probabilities.max(1)
    predictions = [facts["classes"][index] for index in preds.tolist()]
    for index, truth, prediction, confidence in zip(chosen, truths, predictions, confidences.tolist(), strict=True):
        print(f"{testDS.path(int(index))}: Ground Truth: {truth}, Predicted: {prediction} ({confidence:.1%})")

    results = os.path.join(args.output, "results.png")
    reporting.plot_predictions(results, denormalize(images), truths, predictions, confidences.tolist(), show=True)
    right = sum(truth == prediction for truth, prediction in zip(truths, predictions, strict=True))
    print(f"[INFO] {right} of {count} right: {results}")


if __name__ == "__main__":
    errors.run(main)
