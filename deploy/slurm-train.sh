#!/usr/bin/env bash
# Train five folds, a job each: sbatch deploy/slurm-train.sh DATA RUN [SETTINGS...]
# A job that was preempted is queued again, and goes on from its last checkpoint.
#SBATCH --job-name=fullscale-train
#SBATCH --array=0-4
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
data=$1 run=$2
shift 2
exec fullscale train "$data" -o "$run" --fold "${SLURM_ARRAY_TASK_ID:-0}" "$@"
