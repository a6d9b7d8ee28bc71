#!/usr/bin/env bash
# Trials for the released weights: about four minutes of training each on two CPU cores, with fewer steps where a step
# costs more, judged on IXI's validation subjects. Finished ones are kept: the same command again goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."

trial() {  # steps, then what is changed
    steps=$1
    shift
    python -m src.train "$@" +experiment=ixi_release name=trials trainer.max_steps=$steps trainer.val_check_interval=$steps callbacks.last.every_n_steps=$steps module.warmup_steps=50
}

trial 340                                   # the recipe, but for the length
trial 340 seed=1                            # the same: what chance does
trial 340 module.lr=3e-4
trial 340 module.lr=2e-3
trial 340 module.t_focus_share=0.0          # as the paper: all of 1..1000 alike
trial 340 module.t_focus_share=0.95
trial 340 module.min_snr=5
trial 340 module.intensity=0.0
trial 340 module.intensity=1.0
trial 640 data.batch_size=8
trial 180 data.batch_size=32
trial 197 trainer.precision=32-true
trial 236 model=small
trial 405 model.denoiser.network.channels=[64,96,128]
trial 470 model.denoiser.network.channels=[32,96,160] model.denoiser.network.num_head_channels=32
trial 515 model.denoiser.network.channels=[64,64,96,128] model.denoiser.network.attention_levels=[false,false,false,true]
trial 295 model.denoiser.network.channels=[64,96,96] model.denoiser.network.num_res_blocks=2 model.denoiser.network.num_head_channels=32
trial 358 model.denoiser.network.attention_levels=[false,false,false]
trial 670 model.denoiser.factor=4 model.denoiser.network.in_channels=16 model.denoiser.network.out_channels=16 model.denoiser.network.channels=[128,128] model.denoiser.network.attention_levels=[false,true]

for checkpoint in runs/trials/train/*/checkpoints/last.ckpt; do
    python -m src.evaluate +experiment=ixi_tuning name=trials sampler.stride=25 trainer.precision=bf16-mixed perceptual=lpips_random checkpoint="$checkpoint" detector=autoddpm
    python -m src.evaluate +experiment=ixi_tuning name=trials sampler.stride=25 trainer.precision=bf16-mixed perceptual=lpips_random checkpoint="$checkpoint" detector=anoddpm detector.t=300
done
python experiments/release/trials.py runs/trials
