#!/usr/bin/env bash
# The released weights on the semi-synthetic stroke set: Tables 1 to 3 and fairness. AUTODDPM_DATA holds ixi/; the set is built first.
# For two CPU cores: sampler=fast, and bf16 (recorded in each row; leave both out for the paper's sampling in fp32).
# Kept here: of runs/ixi_stroke/report measured.csv and the *_differences.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

python -m src.prepare +experiment=ixi_stroke
python -m src.evaluate +experiment=ixi_stroke checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed detector=autoddpm
python -m src.evaluate +experiment=ixi_stroke checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed detector=autoddpm detector.use_uncertainty=false
python -m src.evaluate +experiment=ixi_stroke checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed detector=autoddpm detector.resample_steps=0
python -m src.evaluate -m +experiment=ixi_stroke checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed detector=anoddpm detector.t=50,100,150,200,250,300
EXPERIMENT=ixi_stroke bash experiments/fairness/run.sh ixi-small sampler=fast trainer.precision=bf16-mixed
python -m src.report +experiment=ixi_stroke report.resamples=6000  # so many that a p-value of 0.05 survives all comparisons
