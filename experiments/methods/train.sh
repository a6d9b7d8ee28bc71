#!/usr/bin/env bash
# Trains the one-call rivals on IXI's healthy slices, half of them as other scanners give them, as ixi-small's: an hour or
# two each on one CPU core. Overrides go to all of them: bash experiments/methods/train.sh trainer=gpu. What is finished is not
# done again: its weights are in WEIGHTS (runs/methods_weights). On a GPU the first three are trained in nine minutes, at the
# same time as restoration: experiments/gpu/run.sh methods.
set -euo pipefail
cd "$(dirname "$0")/../.."
weights=${WEIGHTS:-runs/methods_weights}

mkdir -p "$weights"
for rival in dae vae cevae pddpm cddpm_without_encoder; do
    file=$weights/ixi-$rival.safetensors
    [ ! -e "$file" ] || continue
    training=runs/ixi_$rival/train/default  # one folder, whatever the overrides are
    python -m src.train +experiment=ixi_$rival hydra.run.dir=$training "$@"
    autoddpm export-weights $training/checkpoints/last.ckpt "$file" --half
done
