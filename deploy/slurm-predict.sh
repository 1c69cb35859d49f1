#!/usr/bin/env bash
# Segment an archive with a job array: sbatch deploy/slurm-predict.sh MODEL ARCHIVE OUT
# Submit it again without thinking: what is done is passed over. fullscale status OUT says how far it is.
#SBATCH --job-name=fullscale
#SBATCH --array=1-100%20
#SBATCH --cpus-per-task=4
#SBATCH --mem=12G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail
model=$1 archive=$2 out=$3
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
exec fullscale predict "$model" "$archive" -o "$out" \
    --shard "${SLURM_ARRAY_TASK_ID:-1}/${SLURM_ARRAY_TASK_COUNT:-1}" --jobs 1
