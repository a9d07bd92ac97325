"""What predicting takes, counted on the network that predicts."""

from torch import nn

from cpsd.computing import device_of
from cpsd.config import RunConfig
from cpsd.cost import Cost
from cpsd.flops import inference_flops


def inference_cost(predictor: nn.Module, config: RunConfig, num_images: int) -> Cost:
    """Return the operations of predicting ``num_images`` pictures: those alone, not the time.

    They are counted on the network as it is, at the size of its pictures, for three pictures.
    """
    device = device_of(config)
    flops = inference_flops(
        predictor.to(device).eval(),
        config.image.size,
        num_images=num_images,
        batch_size=config.machine.inference_batch_size,
        device=device,
    )
    return Cost(
        images_forward=num_images,
        flops_forward=None if flops.reason else flops.forward,
        not_counted=flops.reason,
    )
