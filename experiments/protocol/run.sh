#!/usr/bin/env bash
# The protocol table of the rows that are there: run.sh [EXPERIMENT].
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${1:-atlas}

python -m src.report +experiment=$experiment
