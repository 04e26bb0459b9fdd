"""timm's training of the same network on the same photos: its loader, model and optimizer, in a plain loop.

    python benchmarks/timm_train.py --data dataset --output runs/timm

timm's own train.py is not part of the package that pip installs. This loop does what
`train.py --model densenet121 --amp --amp-dtype bfloat16 --channels-last --opt adam` does: the prefetching loader, which
copies uint8 to the device and normalises there, autocast, validation after each epoch. timm has no rotation, so its
workers do less work than the tutorial's; colour jitter, its default, is off. `--recipe adamw` adds what its examples
of modern training have in common: AdamW, weight decay 0.05, a cosine after warm-up, label smoothing 0.1.
"""

import argparse
import json
import os
import time

import timm
import torch
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn
from tutorial import save

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Training:
    """timm's DenseNet121, in channels_last, and one step of it in bfloat16."""

    def __init__(self, classes: int, lr: float = 1e-4, modern: bool = False):
        self.model = timm.create_model("densenet121", num_classes=classes)
        self.model = self.model.to(DEVICE, memory_format=torch.channels_last)
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1 if modern else 0.0)
        opt, decay = ("adamw", 0.05) if modern else ("adam", 0.0)
        self.optimizer = create_optimizer_v2(self.model, opt=opt, lr=lr, weight_decay=decay)

    def step(self, x, y) -> torch.Tensor:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    @torch.inference_mode()
    def evaluate(self, loader) -> int:
        """The number of correct predictions."""
        self.model.eval()
        correct = torch.zeros((), dtype=torch.int64, device=DEVICE)
        for x, y in loader:
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                correct += (self.model(x).argmax(1) == y).sum()
        return int(correct)


def make_loader(folder, size: int, batch: int, training: bool, workers: int):
    """timm's loader of a folder of class folders."""
    dataset = create_dataset("", root=folder, is_training=training, batch_size=batch)
    # without the prefetcher timm does not normalise uint8 on the device, so it is on for CPUs too, as in its train.py
    return create_loader(
        dataset, input_size=(3, size, size), batch_size=batch, is_training=training, color_jitter=0.0,
        interpolation="bilinear", num_workers=workers, device=DEVICE, pin_memory=DEVICE.type == "cuda",
        persistent_workers=workers > 0,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="dataset")
    parser.add_argument("--output", default="output")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--recipe", choices=("adam", "adamw"), default="adam")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4, help="workers of each loader (4, as in timm's train.py)")
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    settings = (args.image_size, args.batch_size)
    trainLoader = make_loader(os.path.join(args.data, "training"), *settings, True, args.workers)
    valLoader = make_loader(os.path.join(args.data, "validation"), *settings, False, args.workers)
    modern = args.recipe == "adamw"
    training = Training(len(trainLoader.dataset.reader.class_to_idx), args.lr, modern)
    warmup = {"warmup_t": max(1, args.epochs // 10), "warmup_lr_init": args.lr / 100, "warmup_prefix": True}
    schedule = CosineLRScheduler(training.optimizer, args.epochs - warmup["warmup_t"], **warmup)

    history = []
    for epoch in range(args.epochs):
        if modern:
            schedule.step(epoch)
        begin = time.monotonic()
        training.model.train()
        photos, total = 0, torch.zeros((), device=DEVICE)
        for x, y in trainLoader:
            total += training.step(x.contiguous(memory_format=torch.channels_last), y) * len(y)
            photos += len(y)  # timm drops the short last batch
        loss = total.item() / photos
        trained = time.monotonic()
        correct = training.evaluate(valLoader)
        history.append({
            "epoch": epoch + 1, "train_loss": loss, "val_acc": correct / len(valLoader.dataset),
            "seconds": time.monotonic() - begin, "images_per_s": photos / (trained - begin),
        })  # fmt: skip
        print(history[-1], flush=True)

    save(args.output, "model.pth", training.model, history)
    if os.path.isdir(folder := os.path.join(args.data, "evaluation")):
        loader = make_loader(folder, *settings, False, args.workers)
        write_metrics(args.output, training.evaluate(loader) / len(loader.dataset))


def write_metrics(output: str, accuracy: float) -> None:
    """Write the accuracy on the test split where train_distributed.py writes its own."""
    with open(os.path.join(output, "food_classifier.json"), "w") as file:
        json.dump({"metrics": {"test_acc": accuracy}}, file)


if __name__ == "__main__":
    main()
