#!/usr/bin/env bash
# The released weights, from the slices to the card: about ten hours of training on one CPU core, then the tables, then
# the same training with another seed. What is finished is kept, the file in weights/ too: the same command again goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
weights=weights/ixi-small.safetensors
training=runs/ixi_release/train/default

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

python -m src.train +experiment=ixi_release seed=1
python -m src.evaluate +experiment=ixi_stroke name=ixi_stroke_seed1 checkpoint=runs/ixi_release/train/seed-1/checkpoints/last.ckpt sampler=fast trainer.precision=bf16-mixed detector=autoddpm
python -m src.evaluate -m +experiment=ixi_stroke name=ixi_stroke_seed1 checkpoint=runs/ixi_release/train/seed-1/checkpoints/last.ckpt sampler=fast trainer.precision=bf16-mixed detector=anoddpm detector.t=50,100,150,200,250,300
python -m src.report +experiment=ixi_stroke name=ixi_stroke_seed1 report.resamples=6000  # kept: measured.csv and table1_differences.md, as experiments/ixi_stroke/seed1*
[ ! -d $training ] || python experiments/release/card.py $weights $training runs/ixi_release/train/seed-1  # with the losses of both
