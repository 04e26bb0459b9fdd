"""Fine-tune a classifier on the prepared dataset.

python train_distributed.py                                        # none, one or all GPUs of this machine
torchrun --standalone --nproc-per-node=gpu train_distributed.py    # the same, faster: one process a GPU
torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29400 train_distributed.py
"""

import os
import signal
import sys
import time

from pyimagesearch import config
from pyimagesearch.runtime import errors
from pyimagesearch.training.options import training_options


def main() -> int:
    args = training_options()  # before the imports that take seconds
    from pyimagesearch.runtime import distributed, launcher, terminal
    from pyimagesearch.training import folds

    terminal.quiet = args.quiet
    if args.nproc and not distributed.launched():
        return launcher.run_by_torchrun(__file__, sys.argv[1:], args.nproc)
    with distributed.started(args.parallel) as launch:
        return folds.run_folds(args, launch, train)


def train(args, launch) -> int:
    """The whole story: data, model, optimizer, epochs, report. Returns the exit status."""
    import torch

    from pyimagesearch import create_dataloaders
    from pyimagesearch.create_dataloaders import get_dataloader, share_workers
    from pyimagesearch.data.datasets import check_same_classes
    from pyimagesearch.data.transforms import eval_transform, train_transform
    from pyimagesearch.evaluation import evaluate, label_report
    from pyimagesearch.food_classifier import FoodClassifier, amp_dtype
    from pyimagesearch.models import batchnorm, parallel
    from pyimagesearch.models.objectives import build_objective
    from pyimagesearch.models.weights import build_backbone
    from pyimagesearch.runtime import distributed
    from pyimagesearch.runtime.signals import StopSignals
    from pyimagesearch.runtime.terminal import info, make_bar
    from pyimagesearch.training import checkpoints, loop, optimizer
    from pyimagesearch.training.run import Run
    from pyimagesearch.training.step_hooks import StepHooks, Stopped
    from pyimagesearch.training.tensorboard import TensorBoardLog

    device = launch.device
    info(f"number of GPUs found: {launch.gpus}...")
    if launch.parallel == "dp" and launch.gpus > 1:
        info("using nn.DataParallel; torchrun --standalone --nproc-per-node=gpu would be faster...")

    # a run that was stopped goes on with the batch that it began with, on however many devices
    checkpoints = checkpoints.Checkpoints(os.path.join(args.output, "checkpoints"))
    state = checkpoints.find_start(checkpoints, resume=args.resume, restart=args.restart)
    localBatch = args.batch_size or config.LOCAL_BATCH_SIZE
    globalBatch = args.global_batch_size or localBatch * launch.devices * args.accumulate
    if state is not None and args.global_batch_size is None:
        globalBatch = state["identity"]["global batch"]
    info(f"using a batch size of {globalBatch}...")

    # the three splits
    trainWorkers, evalWorkers = share_workers(args.workers)
    every = {
        "limit": args.limit, "fold": args.fold, "cache": args.cache, "cache_size": args.cache_size,
        "cache_dir": args.cache_dir, "device": device,
    }  # fmt: skip
    evaluation = {
        "transforms": eval_transform(args.image_size, args.channels), "bs": localBatch, "shuffle": False,
        "workers": evalWorkers, **every,
    }  # fmt: skip
    (trainDS, trainLoader), (valDS, valLoader), (testDS, testLoader) = (
        get_dataloader(
            os.path.join(args.data, "training"), train_transform(args.image_size, args.augment, args.channels),
            globalBatch, seed=args.seed, workers=trainWorkers, **every,
        ),
        get_dataloader(os.path.join(args.data, "validation"), **evaluation),
        get_dataloader(os.path.join(args.data, "evaluation"), **evaluation),
    )  # fmt: skip
    with distributed.failing_together():
        check_same_classes(trainDS, valDS, testDS)
    sampler = trainLoader.batch_sampler

    # the model; BatchNorm stays as pretrained weights have it, because they were made with other batches
    torch.manual_seed(args.seed)
    freeze = args.freeze_backbone or (args.weights != "none" if args.freeze_bn is None else args.freeze_bn)
    with distributed.failing_together():
        dtype = amp_dtype(args.amp, device)
    weights = args.weights if state is None else "none"
    baseModel = distributed.main_first(
        lambda: build_backbone(args.model, weights, image_size=args.image_size, channels=args.channels)
    )
    with distributed.failing_together():
        baseModel = batchnorm.prepare_batchnorm(
            baseModel, launch, freeze=freeze, synchronise=args.sync_bn,
            rows=create_dataloaders.fewest_rows(sampler, args.accumulate), image_size=args.image_size,
        )  # fmt: skip
    model = FoodClassifier(baseModel, len(trainDS.classes))
    model.amp_dtype = dtype
    if args.freeze_backbone:
        model.freeze_backbone()
    model = model.to(device, memory_format=torch.channels_last)
    if args.compile:
        parallel.refuse_threads("--compile", launch)
        model.compile()
    model = parallel.wrap(model, launch)

    # the loss, and Adam or another over what trains, at a rate in proportion to the global batch
    with distributed.failing_together():
        objective = build_objective(
            trainDS.labels, len(trainDS.classes), label_smoothing=args.label_smoothing,
            balanced=args.class_weights == "balanced", device=device,
        )  # fmt: skip
    lr = args.lr * globalBatch / localBatch
    opt = optimizer.build_optimizer(args.optimizer, model.parameters(), lr=lr, weight_decay=args.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    lrScheduler = optimizer.build_scheduler(
        args.scheduler, opt, epochs=args.epochs, warmup=args.warmup_epochs, final=args.lr_final
    )

    identity = {
        "seed": args.seed, "global batch": globalBatch, "batch size": localBatch, "learning rate": args.lr,
        "image size": args.image_size, "augment": args.augment, "cache": args.cache,
        "cache size": None if args.cache == "none" else args.cache_size,
        "model": args.model, "channels": args.channels, "weights": args.weights, "freeze-bn": freeze,
        "freeze-backbone": args.freeze_backbone,
        "sync-bn": args.sync_bn, "amp": str(dtype), "keep": args.keep, "classes": trainDS.classes,
        "training photos (fingerprint)": trainDS.fingerprint(), "epochs": args.epochs, "run id": distributed.run_id(),
        **optimizer.identity(args), **({"fold": args.fold} if args.fold else {}),
    }  # fmt: skip
    log = TensorBoardLog(args.output, sampler.steps, wanted=args.tensorboard)
    run = Run(model, opt, scaler, lrScheduler, identity, args.output, log, objective.task)
    firstEpoch, firstStep, begin = 0, 0, None
    if state is None:
        checkpoints.clear()
    else:
        with distributed.failing_together():
            checkpoints.check_same_run(state, identity)
        begin = run.load(state)
        firstEpoch, firstStep = state["epoch"], state["step"]
    with distributed.failing_together():
        log.open(firstEpoch * sampler.steps + firstStep, vars(args))

    info("training the network...")
    startTime = time.time()
    try:
        with StopSignals() as signals:
            for e in range(firstEpoch, args.epochs):
                epochTime = time.monotonic()
                sampler.set_position(e, firstStep if e == firstEpoch else 0)
                with StepHooks(
                    f"epoch {e + 1}/{args.epochs}", sampler, signals, args.checkpoint_every,
                    save=lambda step, totals, e=e: checkpoints.save(run.state(e, step, totals)), log=log,
                ) as between:  # fmt: skip
                    trained = loop.train_epoch(
                        model, trainLoader, opt, scaler, device, objective=objective, accumulate=args.accumulate,
                        clip_norm=args.clip_norm, begin=begin, after_step=between,
                    )  # fmt: skip
                begin, trainTime = None, time.monotonic() - epochTime
                with make_bar("validation", len(valDS)) as bar:
                    validated = evaluate.evaluate(model, valLoader, device, bar.update, objective)
                run.end_epoch(trained, validated, time.monotonic() - epochTime, between.photos / trainTime)
                print(f"[INFO] EPOCH: {e + 1}/{args.epochs}")
                print(trained.describe("Train"), validated.describe("Val"), sep="\n", flush=True)
                checkpoints.save(run.state(e + 1))
                between.stop_if_asked()
            checkpoints.wait()
    except loop.NonFiniteLoss as error:
        with distributed.failing_together():
            raise errors.UserError(loop.non_finite_message(error, e, trainLoader, args.output)) from None
    except Stopped as stopped:
        checkpoints.wait()
        print(f"[INFO] {signal.Signals(stopped.number).name}: saved in {checkpoints.folder}; go on with --resume")
        return 128 + stopped.number
    info(f"total time taken to train the model: {time.time() - startTime:.2f}s")
    photos = {"training": len(trainDS), "validation": len(valDS), "evaluation": len(testDS)}
    info("evaluating network...")
    run.load_kept()
    if objective.task == "multi-label":
        label_report.report(run, valLoader, testLoader, launch, objective, photos)
    else:
        report(run, testLoader, launch, objective, photos)
    return 0


def report(run, testLoader, launch, objective, photos) -> None:
    """Evaluate the kept model on the test split; print, draw and write what came of the run.

    photos : how many each split has
    """
    from pyimagesearch.evaluation import evaluate, machine, report
    from pyimagesearch.runtime import distributed
    from pyimagesearch.runtime.terminal import make_bar

    with make_bar("evaluation", len(testLoader.dataset)) as bar:
        probabilities, losses = evaluate.predict_split(run.model, testLoader, launch.device, bar.update, objective)
    if distributed.is_main():
        report.report(run, testLoader.dataset, probabilities, losses, photos, machine.machine_facts(launch))


if __name__ == "__main__":
    errors.run(main)
