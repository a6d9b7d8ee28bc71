#!/usr/bin/env bash
# Trials for the released weights, of about the same time each (two CPU cores), judged on IXI's validation subjects.
set -euo pipefail
cd "$(dirname "$0")/../.."

python -m src.train +experiment=ixi_release name=trials trainer.max_steps=340 trainer.val_check_interval=170
python -m src.train -m +experiment=ixi_release name=trials trainer.max_steps=340 trainer.val_check_interval=170 module.lr=3e-4,2e-3
python -m src.train -m +experiment=ixi_release name=trials trainer.max_steps=340 trainer.val_check_interval=170 module.t_focus_share=0.0,0.95
python -m src.train +experiment=ixi_release name=trials trainer.max_steps=340 trainer.val_check_interval=170 module.intensity=0.0
python -m src.train +experiment=ixi_release name=trials trainer.max_steps=340 trainer.val_check_interval=170 callbacks.ema.decay=0.99
python -m src.train +experiment=ixi_release name=trials trainer.max_steps=680 trainer.val_check_interval=340 data.batch_size=8
python -m src.train +experiment=ixi_release name=trials trainer.max_steps=215 trainer.val_check_interval=215 model=small
python experiments/release/trials.py runs/trials/train
