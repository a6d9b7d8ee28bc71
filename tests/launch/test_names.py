"""Names of runs and the resolvers of conf/."""

import time

import pytest
from omegaconf import OmegaConf

from autoddpm.launch.names import register_resolvers


@pytest.mark.parametrize(
    ("most", "left", "said"), [(200, 3700, "00:00:03:20"), (9000, 3700, "00:01:01:40"), (9, -5, 1)]
)
def test_a_training_s_time_ends_at_a_moment(monkeypatch, most, left, said):
    register_resolvers()
    monkeypatch.setattr(time, "time", lambda: 1000.9)
    config = OmegaConf.create({"max_time": f"${{until:{most},{1000 + left}}}"})
    assert config.max_time == (said if isinstance(said, str) else "00:00:00:01")
