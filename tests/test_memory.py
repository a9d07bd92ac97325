import pytest
import torch

from cpsd.errors import ModelError
from cpsd.memory import plain_inference_memory


@pytest.mark.parametrize(
    ("batch_size", "advice"),
    [(128, "--machine.inference_batch_size 64; it changes no result"), (1, "a single picture")],
)
def test_memory_that_runs_out_names_what_would_fit(batch_size: int, advice: str) -> None:
    with pytest.raises(ModelError, match=advice), plain_inference_memory(batch_size):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_so_it_does_where_a_cpu_has_no_more() -> None:
    # More than any machine has: the allocator itself refuses.
    with pytest.raises(ModelError, match="Memory ran out"), plain_inference_memory(2):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), plain_inference_memory(2):
        raise RuntimeError("shapes do not fit")
