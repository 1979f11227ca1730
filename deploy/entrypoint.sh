#!/bin/sh
# Secrets come as files, the program takes them from its environment: nothing is in an image, a command line or a log.
set -eu
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PGPASSWORD_FILE")
    export PGPASSWORD
fi
if [ -n "${MXCENSUS_TOKEN_FILE:-}" ]; then
    MXCENSUS_TOKEN=$(cat "$MXCENSUS_TOKEN_FILE")
    export MXCENSUS_TOKEN
fi
exec "$@"
