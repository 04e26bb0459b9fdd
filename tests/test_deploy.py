"""The cluster files, as far as a machine without a cluster can check them."""

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_slurm_script_is_a_bash_script():
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sbatch"], check=True)


def test_kubernetes_knows_every_field_of_the_train_job():
    """The models drop a field that they do not know, so what comes back must be what went in."""
    yaml = pytest.importorskip("yaml")
    models = pytest.importorskip("kubeflow_trainer_api.models")
    job = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    assert models.TrainerV1alpha1TrainJob.from_dict(job).to_dict() == job


def test_the_files_name_scripts_and_flags_that_exist():
    from pyimagesearch.training.options import training_options

    for name in ("slurm.sbatch", "kubernetes.yaml", "Dockerfile"):
        assert "train_distributed.py" in (DEPLOY / name).read_text()
    training_options(["--data", "/data/dataset", "--output", "/data/output", "--resume"])
