#!/usr/bin/env bash
# Trials for the released weights, in two rounds (about five, then nine minutes of training each on two CPU
# cores: fewer steps where a step costs more), measured on IXI's validation subjects, the second round on phantom lesions
# in them too; weights/README.md says what was chosen by which. Finished ones are kept: the same command again goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."

trial() {  # steps, then what is changed
    steps=$1
    shift
    python -m src.train "$@" +experiment=ixi_release name=$round trainer.max_steps=$steps trainer.val_check_interval=$steps callbacks.last.every_n_steps=$steps module.warmup_steps=50
}

round=trials  # around a first guess
trial 340 model=half data.batch_size=16  # where it began
trial 340 model=half data.batch_size=16 seed=1  # the same: what chance does
trial 340 model=half data.batch_size=16 module.lr=3e-4
trial 340 model=half data.batch_size=16 module.lr=2e-3
trial 340 model=half data.batch_size=16 module.t_focus_share=0.0  # as the paper: all of 1..1000 alike
trial 340 model=half data.batch_size=16 module.t_focus_share=0.95
trial 340 model=half data.batch_size=16 module.min_snr=5
trial 340 model=half data.batch_size=16 module.intensity=0.0
trial 340 model=half data.batch_size=16 module.intensity=1.0
trial 640 model=half data.batch_size=8
trial 180 model=half data.batch_size=32
trial 197 model=half data.batch_size=16 trainer.precision=32-true
trial 236 model=small data.batch_size=16
trial 405 model=half data.batch_size=16 model.denoiser.network.channels=[64,96,128]
trial 470 model=half data.batch_size=16 model.denoiser.network.channels=[32,96,160] model.denoiser.network.num_head_channels=32
trial 515 model=half data.batch_size=16 model.denoiser.network.channels=[64,64,96,128] model.denoiser.network.attention_levels=[false,false,false,true]
trial 295 model=half data.batch_size=16 model.denoiser.network.channels=[64,96,96] model.denoiser.network.num_res_blocks=2 model.denoiser.network.num_head_channels=32
trial 358 model=half data.batch_size=16 model.denoiser.network.attention_levels=[false,false,false]
trial 670 model=half data.batch_size=16 model.denoiser.factor=4 model.denoiser.network.in_channels=16 model.denoiser.network.out_channels=16 model.denoiser.network.channels=[128,128] model.denoiser.network.attention_levels=[false,true]

round=finals  # the first round's better choices together
trial 730 model=small data.batch_size=8
trial 990 model=small data.batch_size=8 model.denoiser.channels=[32,32,64,128] model.denoiser.attention_levels=[false,false,false,true]
trial 1750 model=small data.batch_size=4 model.denoiser.channels=[32,32,64,128] model.denoiser.attention_levels=[false,false,false,true]
trial 1050 model=compact data.batch_size=8
trial 1050 model=compact data.batch_size=8 module.min_snr=5
trial 1380 model=compact data.batch_size=8 model.denoiser.channels=[16,32,64,128,128] model.denoiser.norm_num_groups=16
trial 1420 model=half data.batch_size=8 model.denoiser.network.channels=[64,64,96,128] model.denoiser.network.attention_levels=[false,false,false,true]

for checkpoint in runs/finals/train/*/checkpoints/last.ckpt; do
    python -m src.evaluate +experiment=ixi_tuning name=finals sampler.stride=25 trainer.precision=bf16-mixed perceptual=lpips_random checkpoint="$checkpoint" detector=autoddpm
    python -m src.evaluate +experiment=ixi_tuning name=finals sampler.stride=25 trainer.precision=bf16-mixed perceptual=lpips_random checkpoint="$checkpoint" detector=anoddpm detector.t=300
done
python experiments/release/trials.py runs/trials  # its trials.csv is experiments/release/trials.csv
python experiments/release/trials.py runs/finals  # its trials.csv is experiments/release/finals.csv
