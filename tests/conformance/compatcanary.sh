#!/usr/bin/env bash
# CompatCanary (npm) against a server of our own with the real 0.5B: `make conformance`. Needs Node and the npm registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
PORT="${PORT:-8129}"
DATA="$(mktemp -d)"
.venv/bin/kaelum serve --port "$PORT" --data-dir "$DATA" 2> "$DATA/log" &
SERVER=$!
trap 'kill "$SERVER" 2> /dev/null; wait "$SERVER" || true; rm -rf "$DATA"' EXIT
for _ in $(seq 300); do
    [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT/ready" || true)" = 200 ] && break
    kill -0 "$SERVER" 2> /dev/null || { cat "$DATA/log" >&2; exit 1; }
    sleep 1
done
npx --yes compatcanary@0.2.2 scan --base-url "http://127.0.0.1:$PORT/v1" --model kaelum-direct --profile modern \
    --api-key unused --timeout 120 --fail-on any
