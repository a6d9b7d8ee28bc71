#!/usr/bin/env bash
# Rules for the mask's threshold, on IXI's validation subjects as they are and as other scanners and older patients give
# them: run.sh [CHECKPOINT [OVERRIDE ...]]. AUTODDPM_DATA holds ixi/. Kept here: the reports' measured.csv, that of
# ixi_tuning_shifted as shifted.csv.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkpoint=${1:-ixi-small}
shift || true

for data in ixi_tuning ixi_tuning_shifted; do
    rule() { python -m src.evaluate +experiment=$data name=mask_rules_$data checkpoint=$checkpoint detector=autoddpm "$@"; }
    rule "$@"  # the paper's rate of 5 %
    rule mask_false_positive_rate=0.02 "$@"
    rule mask_false_positive_rate=0.01 "$@"
    rule detector.mask_region=head "$@"
    rule detector.mask_region=head mask_false_positive_rate=0.02 "$@"
    rule detector.mask_threshold=percentile "$@"
    rule detector.mask_threshold=percentile detector.mask_percentile=98 "$@"
    rule detector.mask_threshold=percentile detector.mask_region=head "$@"
    rule detector.mask_threshold=percentile detector.mask_percentile=98 detector.mask_region=head "$@"
done
data=ixi_tuning_shifted  # thresholds of healthy slices of the target's own kind
rule data.sources.ixi_tuning.shifted=[val,test] "$@"
rule data.sources.ixi_tuning.shifted=[val,test] mask_false_positive_rate=0.02 "$@"
python -m src.report +experiment=ixi_tuning name=mask_rules_ixi_tuning
python -m src.report +experiment=ixi_tuning_shifted name=mask_rules_ixi_tuning_shifted report.allow_mixed=true
