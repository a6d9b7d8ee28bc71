#!/usr/bin/env bash
# Tables of the finished rows, and whether fewer calls are as good: report.sh RUNS PROCESSES
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-runs}
processes=${2:-1}
export OMP_NUM_THREADS=1

python -m src.report +experiment=ixi_stroke paths.runs=$runs report.page=false report.processes=$processes report.allow_mixed=true
python experiments/gpu/fewer_calls.py "$runs/ixi_stroke" > "$runs/ixi_stroke/report/fewer_calls.md"
