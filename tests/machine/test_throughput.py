"""Achieved over ideal: operations are counted right, and are logged as a share."""

import logging
from types import SimpleNamespace

import torch
from tiny import one_thread as one_thread
from tiny import short_ddpm
from torch import nn

from autoddpm.machine import throughput
from autoddpm.machine.throughput import Throughput, forward_operations, ideal_operations


class OneConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 3, padding=1)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def test_a_convolution_is_two_operations_per_weight_and_pixel():
    assert forward_operations(short_ddpm(OneConv()), 16) == 2 * 5 * 9 * 16**2


def test_operations_are_counted_before_a_network_is_compiled():
    """torch 2.11 never compiles what it saw first while operations were counted."""
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append("compiled")
        return graph

    network = OneConv()
    network.compile(backend=backend)
    assert forward_operations(short_ddpm(network), 16) == 2 * 5 * 9 * 16**2
    assert graphs == []
    network(torch.zeros(1, 1, 16, 16), torch.zeros(1, dtype=torch.int64))
    assert graphs == ["compiled"]


def test_the_ideal_is_what_a_matrix_product_reaches(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(
        throughput.time, "perf_counter", lambda: float(next(clock))
    )  # each product takes a second
    side = throughput.SIDE // 16
    assert ideal_operations(torch.device("cpu"), torch.float32) == 2 * side**3


def test_the_share_is_logged_once_a_minute(monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr(throughput.time, "monotonic", lambda: clock[0])
    ideal = {torch.bfloat16: 46080.0}  # of the training's precision
    monkeypatch.setattr(throughput, "ideal_operations", lambda device, dtype: ideal[dtype])
    trainer = SimpleNamespace(precision="bf16-mixed", is_global_zero=True)
    module = SimpleNamespace(
        hparams={"data": {"size": 16}},
        model=short_ddpm(OneConv()),
        device=torch.device("cpu"),
    )
    callback, batch = Throughput(), SimpleNamespace(id=["a"] * 10)
    callback.on_train_start(trainer, module)
    with caplog.at_level(logging.INFO):
        for clock[0] in (10.0, 40.0, 60.0):
            callback.on_train_batch_end(trainer, module, None, batch, 0)
    (record,) = caplog.records
    assert "0.5 slices a second" in record.message
    assert record.message.endswith(f"({100 * 0.5 * 3 * 23040 / 46080:.0f} %)")
