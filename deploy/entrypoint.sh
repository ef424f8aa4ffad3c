#!/bin/sh
# `kaelum` with the upstream's key read from a file, as Docker and Kubernetes hand secrets out.
set -eu
if [ -n "${KAELUM_API_KEY_FILE:-}" ]; then
    KAELUM_API_KEY="$(cat "$KAELUM_API_KEY_FILE")"
    export KAELUM_API_KEY
fi
unset KAELUM_API_KEY_FILE
exec kaelum "$@"
