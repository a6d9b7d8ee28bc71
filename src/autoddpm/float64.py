"""Float64 wherever a device has it, and beside the device if it does not: Apple's GPUs do not."""

from torch import Tensor

#: Types of devices that have no float64.
WITHOUT = ("mps",)


def double(x: Tensor) -> Tensor:
    """A tensor in float64: on its own device, or on the CPU if that has none.

    What is computed with it goes back by `.to(x)`.
    """
    return (x.cpu() if x.device.type in WITHOUT else x).double()
