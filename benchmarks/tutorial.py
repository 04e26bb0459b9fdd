"""The tutorial's training, as a reference: what a reader who follows it exactly gets.

    python benchmarks/tutorial.py --data dataset --output runs/tutorial

Rewritten for these measurements; it is not the published text. It does the same where speed is concerned: ImageFolder
and torchvision's transforms, in workers that end with each epoch, one per core for each of three loaders; DenseNet121
with the loop that is meant to freeze BatchNorm; nn.DataParallel on several GPUs; float16 with a GradScaler on GPUs,
float32 on CPUs; Adam; two .item() per step; validation after each epoch; a report on the test split. Two faults that
would end a run are not repeated: a batch size of 0 without a GPU, and a device that is always "cuda".
"""

import argparse
import csv
import os
import time

import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def train_transforms(size: int) -> transforms.Compose:
    return transforms.Compose([
        transforms.RandomResizedCrop(size),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(90),
        transforms.ToTensor(),
        transforms.Normalize(mean=MEAN, std=STD),
    ])  # fmt: skip


def eval_transforms(size: int) -> transforms.Compose:
    return transforms.Compose([
        transforms.Resize((size, size)),
        transforms.ToTensor(),
        transforms.Normalize(mean=MEAN, std=STD),
    ])  # fmt: skip


def make_loader(folder, transform, batch: int, shuffle: bool = True, workers: int | None = None):
    """(dataset, loader)"""
    dataset = datasets.ImageFolder(root=folder, transform=transform)
    # the published pin_memory compares a device with a string, so it is off
    workers = os.cpu_count() if workers is None else workers
    return dataset, DataLoader(dataset, batch_size=batch, shuffle=shuffle, num_workers=workers)


class Classifier(nn.Module):
    def __init__(self, base, classes: int):
        super().__init__()
        self.base = base
        self.head = nn.Linear(base.classifier.in_features, classes)
        base.classifier = nn.Identity()

    def forward(self, x):
        with torch.autocast("cuda", dtype=torch.float16, enabled=DEVICE == "cuda"):
            return self.head(self.base(x))


def make_model(classes: int, weights: str | None = None) -> nn.Module:
    base = models.densenet121(weights=weights)
    # as published, though modules and parameters do not correspond
    for module, parameter in zip(base.modules(), base.parameters(), strict=False):
        if isinstance(module, nn.BatchNorm2d):
            parameter.requires_grad = False
    model = Classifier(base, classes).to(DEVICE)
    return nn.DataParallel(model) if torch.cuda.device_count() > 1 else model


class Training:
    """The model, its optimizer, and one training step."""

    def __init__(self, classes: int, lr: float = 1e-4, weights: str | None = None):
        self.model = make_model(classes, weights)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = optim.Adam(self.model.parameters(), lr=lr * max(torch.cuda.device_count(), 1))
        self.schedule = optim.lr_scheduler.StepLR(self.optimizer, step_size=10, gamma=0.1)
        self.scaler = torch.amp.GradScaler(DEVICE, enabled=DEVICE == "cuda")

    def step(self, x, y) -> tuple[float, float]:
        """(loss, correct predictions) of a batch on the device; the host waits for each."""
        with torch.autocast(DEVICE, enabled=DEVICE == "cuda"):
            predictions = self.model(x)
            loss = self.loss(predictions, y)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss.item(), (predictions.argmax(1) == y).type(torch.float).sum().item()

    @torch.no_grad()
    def evaluate(self, loader) -> tuple[float, float]:
        """(sum of batch losses, correct predictions)"""
        self.model.eval()
        total = correct = 0
        for x, y in loader:
            x, y = x.to(DEVICE), y.to(DEVICE)
            with torch.autocast(DEVICE, enabled=DEVICE == "cuda"):
                predictions = self.model(x)
                total += self.loss(predictions, y).item()
            correct += (predictions.argmax(1) == y).type(torch.float).sum().item()
        return total, correct


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="dataset")
    parser.add_argument("--output", default="output")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128, help="photos per step and device")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet")
    parser.add_argument("--workers", type=int, help="workers of each of the three loaders (as published: one per core)")
    args = parser.parse_args()

    batch = args.batch_size * max(torch.cuda.device_count(), 1)
    folders = [os.path.join(args.data, name) for name in ("training", "validation", "evaluation")]
    evaluation = eval_transforms(args.image_size)
    trainDS, trainLoader = make_loader(folders[0], train_transforms(args.image_size), batch, True, args.workers)
    valDS, valLoader = make_loader(folders[1], evaluation, batch, False, args.workers)
    testDS, testLoader = make_loader(folders[2], evaluation, batch, False, args.workers)
    training = Training(len(trainDS.classes), args.lr, None if args.weights == "none" else "IMAGENET1K_V1")

    history = []
    for epoch in range(args.epochs):
        begin = time.monotonic()
        training.model.train()
        totalLoss = trainCorrect = 0
        for x, y in trainLoader:
            loss, correct = training.step(x.to(DEVICE), y.to(DEVICE))
            totalLoss += loss
            trainCorrect += correct
        training.schedule.step()
        trained = time.monotonic()
        _, valCorrect = training.evaluate(valLoader)
        history.append({
            "epoch": epoch + 1, "train_loss": totalLoss / len(trainLoader), "train_acc": trainCorrect / len(trainDS),
            "val_acc": valCorrect / len(valDS), "seconds": time.monotonic() - begin,
            "images_per_s": len(trainDS) / (trained - begin),
        })  # fmt: skip
        print(history[-1], flush=True)
    _, testCorrect = training.evaluate(testLoader)
    print(f"test accuracy {testCorrect / len(testDS):.4f}")

    save(args.output, "food_classifier.pth", training.model, history)


def save(output: str, name: str, model: nn.Module, history: list[dict]) -> None:
    """Write the model to the file `name` in the folder `output`, and history.csv with a row per epoch."""
    os.makedirs(output, exist_ok=True)
    torch.save(model.state_dict(), os.path.join(output, name))
    with open(os.path.join(output, "history.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


if __name__ == "__main__":
    main()
