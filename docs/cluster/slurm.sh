#!/usr/bin/env bash
# A Ray cluster inside one SLURM job, and a run on it.
#
#   sbatch slurm.sh --config coco-resnet101 --data.root /shared/coco --out /shared/runs/coco
#
# When the time is up, submit the same line again: the run goes on from its last epoch.
#SBATCH --job-name=cpsd
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=40
#SBATCH --time=24:00:00
#SBATCH --output=cpsd-%j.log
set -euo pipefail

VENV=${VENV:-/shared/venv}
PORT=$((20000 + SLURM_JOB_ID % 20000))
export RAY_USAGE_STATS_ENABLED=0

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${machines[0]}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | cut -d" " -f1)

# Ray is told what SLURM gave the job: a machine may have more.
shares=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")

srun --nodes=1 --ntasks=1 -w "$head" \
    "$VENV/bin/ray" start --head --node-ip-address="$address" --port="$PORT" "${shares[@]}" --block &
until "$VENV/bin/ray" health-check --address "$address:$PORT" 2>/dev/null; do sleep 2; done
for machine in "${machines[@]:1}"; do
    srun --nodes=1 --ntasks=1 -w "$machine" \
        "$VENV/bin/ray" start --address="$address:$PORT" "${shares[@]}" --block &
done

"$VENV/bin/cpsd" run --executor ray --ray-address "$address:$PORT" "$@"
