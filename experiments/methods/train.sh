#!/usr/bin/env bash
# Trains the one-call rivals on IXI's healthy slices: 10,000 steps of 8 each, half of the slices as other scanners give
# them, as ixi-small's. Overrides go to all of them: bash experiments/methods/train.sh trainer=gpu. What is finished is
# not done again.
set -euo pipefail
cd "$(dirname "$0")/../.."

python -m src.train +experiment=ixi_dae "$@"
python -m src.train +experiment=ixi_vae "$@"
python -m src.train +experiment=ixi_cevae "$@"
python -m src.train +experiment=ixi_pddpm "$@"
python -m src.train +experiment=ixi_cddpm_without_encoder "$@"
