#!/usr/bin/env bash
# Train five folds, a job each: sbatch deploy/slurm-train.sh DATA RUN [SETTINGS...]
# Several GPUs a fold: sbatch --nodes=1 --ntasks-per-node=4 --gres=gpu:4 deploy/slurm-train.sh ...
# Two minutes before its time is over, or when it is preempted, a job writes a checkpoint and is queued again.
#SBATCH --job-name=fullscale-train
#SBATCH --array=0-4
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
data=$1 run=$2
shift 2
code=0
# srun hands the exit code on, and Slurm sends SIGUSR1 to what it started, not to this script.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 \
    fullscale train "$data" -o "$run" --fold "${SLURM_ARRAY_TASK_ID:-0}" "$@" || code=$?
if [ "$code" -eq 75 ]; then # preempted: it goes on where it was
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
