"""Fine-tune a classifier on the prepared dataset.

python train_distributed.py                                        # none, one or all GPUs of this machine
torchrun --standalone --nproc-per-node=gpu train_distributed.py    # the same, faster: one process per GPU
torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29400 train_distributed.py
"""

import sys

from pyimagesearch.runtime import errors, launcher
from pyimagesearch.training.options import training_options


def main() -> int | None:
    args = training_options()  # before the imports that take seconds
    launcher.end_with_launcher()
    from pyimagesearch.food_classifier import print_plan
    from pyimagesearch.runtime import distributed, terminal
    from pyimagesearch.training.folds import run_folds

    terminal.quiet = args.quiet
    if args.plan:
        print_plan(args)
        return 0
    if args.nproc and not launcher.run_id().startswith(launcher.NPROC):
        return launcher.run_by_torchrun(__file__, sys.argv[1:], args.nproc)
    with distributed.started(args.parallel) as launch:
        distributed.check_same_start(args)
        run_folds(args, launch, train)
    return None


def train(args, launch) -> None:
    """The whole story: data, model, optimizer, epochs, report."""
    import torch

    from pyimagesearch.create_dataloaders import open_splits
    from pyimagesearch.evaluation.evaluate import evaluate
    from pyimagesearch.food_classifier import build_model
    from pyimagesearch.models.objectives import build_objective
    from pyimagesearch.runtime.signals import StopSignals
    from pyimagesearch.runtime.terminal import info
    from pyimagesearch.training.checkpoints import find_start
    from pyimagesearch.training.loop import StepHooks, train_epoch
    from pyimagesearch.training.optimizer import Schedule, build_optimizer
    from pyimagesearch.training.options import resolve
    from pyimagesearch.training.run import Run

    info(f"number of GPUs found: {launch.gpus}...")
    found = find_start(args)  # the checkpoint to go on from; None: a new run
    args = resolve(args, launch, found)  # from here on nobody decides a default
    info(f"using a batch size of {args.global_batch_size}...")
    trainLoader, valLoader, testLoader = open_splits(args, launch.device, found)

    # weights, BatchNorm, the classifier, precision, compilation, DataParallel or DistributedDataParallel
    model = build_model(args, launch, trainLoader, pretrained=found is None)
    objective = build_objective(
        trainLoader.dataset, label_smoothing=args.label_smoothing, balanced=args.class_weights == "balanced",
        device=launch.device,
    )  # fmt: skip
    opt = build_optimizer(args, model)  # the learning rate grows with the global batch
    lrScheduler = Schedule(
        args.scheduler, opt, steps=trainLoader.batch_sampler.steps, epochs=args.epochs, warmup=args.warmup_epochs,
        final=args.lr_final,
    )  # fmt: skip
    scaler = torch.amp.GradScaler(launch.device.type, enabled=args.amp == "fp16")

    run = Run(args, launch, model, objective, opt, lrScheduler, scaler, trainLoader)  # what a checkpoint holds
    run.begin(found)
    info("training the network...")
    with StopSignals() as stop:
        while not run.finished:  # --epochs, --patience, --max-time
            trained = train_epoch(run, trainLoader, StepHooks(run, stop))
            validated = evaluate(run.evaluated, valLoader, objective)
            run.end_epoch(trained, validated)  # history, best model, learning rate, checkpoint
            run.stop_if_asked(stop)
    run.report(valLoader, testLoader)


if __name__ == "__main__":
    errors.run(main)
