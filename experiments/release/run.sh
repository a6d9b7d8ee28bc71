#!/usr/bin/env bash
# The released weights, from the slices to the card: run.sh [SECOND]. About ten hours of training on one CPU core, then the
# tables, then the same of a second training: of the weights SECOND, as experiments/gpu/run.sh methods gives them, or of the
# same training with another seed. What is finished is kept, the file in weights/ too: the same command again goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
weights=weights/ixi-small.safetensors
training=runs/ixi_release/train/default
second=${1:-runs/ixi_release/train/seed-1/checkpoints/last.ckpt}

if [ -f $weights ]; then
    echo "$weights is kept as it is: to make it anew, move it away first"
else
    python -m src.train +experiment=ixi_release
    autoddpm export-weights $training/checkpoints/last.ckpt $weights --half
fi
bash experiments/ixi_stroke/run.sh  # calibrates: thresholds are kept beside the weights
python -m src.evaluate +experiment=ixi_stroke name=ixi_stroke_fp32 checkpoint=ixi-small sampler=fast detector=autoddpm  # thresholds in fp32
autoddpm export-weights $weights $weights --half  # the thresholds are in the file now
rm -f weights/ixi-small.thresholds.*

row() { python -m src.evaluate -m +experiment=ixi_stroke name=ixi_stroke_seed1 checkpoint=$second sampler=fast trainer.precision=bf16-mixed "$@"; }
[ $# != 0 ] || python -m src.train +experiment=ixi_release seed=1
row detector=autoddpm
row detector=anoddpm detector.t=50,100,150,200,250,300
python -m src.report +experiment=ixi_stroke name=ixi_stroke_seed1  # kept: measured.csv, as experiments/ixi_stroke/seed1.csv
if [ $# = 0 ] && [ -d $training ]; then
    python experiments/release/card.py $weights $training runs/ixi_release/train/seed-1  # with the losses of both
fi
