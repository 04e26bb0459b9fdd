"""Every constant, and nothing else. The names and values are the tutorial's; each can be changed here or by a flag."""

import os

# the original photos, and the dataset that prepare_dataset.py makes of them
DATA_PATH = "Food-11"
SAMPLE_PATH = "Food-11-sample"
BASE_PATH = "dataset"
# the three splits of the dataset
TRAIN = os.path.join(BASE_PATH, "training")
VAL = os.path.join(BASE_PATH, "validation")
TEST = os.path.join(BASE_PATH, "evaluation")
SPLITS = ("training", "validation", "evaluation")
# the usual names of their folders, or of lists such as train.txt, in any case
SPLIT_NAMES = {
    "training": ("training", "train", "training_set", "train_set"),
    "validation": ("validation", "valid", "val", "validation_set", "val_set"),
    "evaluation": ("evaluation", "eval", "testing", "test", "test_set"),
}
# the shares of each class that become validation and evaluation where a source has no such splits
VAL_RATE = 0.2
TEST_RATE = 0.1
# the classes, in the order of the numbers that begin the file names of Food-11
CLASSES = [
    "Bread",
    "Dairy_product",
    "Dessert",
    "Egg",
    "Fried_food",
    "Meat",
    "Noodles/Pasta",
    "Rice",
    "Seafood",
    "Soup",
    "Vegetable/Fruit",
]
# mean and standard deviation of ImageNet's pixels (RGB, on a scale of 0 to 1), and the side of the square a model sees
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]
IMAGE_SIZE = 224
# the network, by torchvision's name
MODEL = "densenet121"
# one device's share of a batch in training; how many photos inference shows; and how long and how fast to train
LOCAL_BATCH_SIZE = 128
PRED_BATCH_SIZE = 4
EPOCHS = 20
LR = 0.0001
# the share of the learning rate at which the cosine schedule ends
LR_FINAL = 0.01
# the share of the batches that --mix mixes
MIX_SHARE = 0.5
# what training leaves behind
OUTPUT_PATH = "output"
PLOT_PATH = os.path.join(OUTPUT_PATH, "model_training.png")
MODEL_PATH = os.path.join(OUTPUT_PATH, "food_classifier.pth")


def __getattr__(name: str):
    """DEVICE, looked up when it is asked for: importing this file costs no import of torch and needs no GPU."""
    if name == "DEVICE":
        import torch

        apple = "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else apple)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
