"""How a model is shared by devices, where one CPU can show it."""

import pytest
import torch
from helpers.runs import ONE

from pyimagesearch.models import parallel
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("flag", ["--compile", "--sync-bn"])
def test_what_threads_cannot_share_is_refused_where_they_share_the_model(flag):
    threads = distributed.Launch("dp", CPU, gpus=2, devices=2)
    with pytest.raises(UserError, match=f"{flag} needs one process per GPU"):
        parallel.refuse_threads(flag, threads)
    parallel.refuse_threads(flag, ONE)
