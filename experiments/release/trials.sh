#!/usr/bin/env bash
# Trials for the released weights, of about the same time each on two CPU cores (some minutes), judged on IXI's validation
# subjects. Steps are fewer where a step costs more. Finished ones are kept.
set -euo pipefail
cd "$(dirname "$0")/../.."

trial() {  # steps, then what is changed
    steps=$1
    shift
    python -m src.train "$@" +experiment=ixi_release name=trials trainer.max_steps=$steps trainer.val_check_interval=$steps callbacks.last.every_n_steps=$steps
}

trial 340                                   # the recipe
trial 340 module.lr=3e-4
trial 340 module.lr=2e-3
trial 340 module.t_focus_share=0.0          # as the paper: all of 1..1000 alike
trial 340 module.t_focus_share=0.95
trial 340 module.min_snr=5
trial 340 module.intensity=0.0
trial 340 module.intensity=1.0
trial 340 callbacks.ema.decay=0.99
trial 680 data.batch_size=8
trial 170 data.batch_size=32
trial 215 model=small
trial 340 model.denoiser.network.attention_levels=[false,false,false]
trial 250 model.denoiser.network.num_res_blocks=2
trial 450 model.denoiser.network.channels=[64,96,128]
trial 240 trainer.precision=32-true

for checkpoint in runs/trials/train/*/checkpoints/last.ckpt; do
    python -m src.evaluate +experiment=ixi_tuning name=trials sampler.stride=25 trainer.precision=bf16-mixed perceptual=lpips_random checkpoint="$checkpoint" detector=autoddpm
    python -m src.evaluate -m +experiment=ixi_tuning name=trials sampler.stride=25 trainer.precision=bf16-mixed perceptual=lpips_random checkpoint="$checkpoint" detector=anoddpm detector.t=200,300
done
python experiments/release/trials.py runs/trials
