#!/usr/bin/env bash
# Starts a Ray cluster over ssh, performs a run on it, and stops it.
#
#   HEAD=gpu1 WORKERS="gpu2 gpu3" bash bare-machines.sh --config coco-resnet101 --data.root /shared/coco --out /shared/runs/coco
#
# Every machine has the same environment at VENV (pip install 'cpsd[ray]', same versions) and the same disk at SHARED, where data and run
# directory lie. Ray's ports are open to whoever reaches the machines: keep them on a network of your own. ADDRESS is the head's address
# there, the one that the others reach it by.
set -euo pipefail

HEAD=${HEAD:?name the first machine}
WORKERS=${WORKERS:-}
ADDRESS=${ADDRESS:-$(ssh "$HEAD" hostname -I | cut -d" " -f1)}
SHARED=${SHARED:-/shared}
VENV=${VENV:-$SHARED/venv}
PORT=${PORT:-6379}

stop() {
    for machine in $WORKERS "$HEAD"; do
        ssh "$machine" "$VENV/bin/ray stop" || true
    done
}
trap stop EXIT

environment="RAY_USAGE_STATS_ENABLED=0"
ssh "$HEAD" "$environment $VENV/bin/ray start --head --node-ip-address=$ADDRESS --port=$PORT"
for machine in $WORKERS; do
    ssh "$machine" "$environment $VENV/bin/ray start --address=$ADDRESS:$PORT"
done

arguments=$(printf " %q" "$@")
ssh -t "$HEAD" "cd $SHARED && $VENV/bin/cpsd run --executor ray --ray-address $ADDRESS:$PORT$arguments"
