#!/bin/sh
# Makes the secrets that docker-compose.yml names, each once; they are read from files and never leave them.
set -eu
cd "$(dirname "$0")/.."
mkdir -p secrets data
for name in postgres scanner dashboard token; do
    [ -s "secrets/$name" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"secrets/$name"
    chmod 644 "secrets/$name"  # containers read them as users of their own; the directory keeps others out
done
chmod 711 secrets
echo "secrets/ is ready; the dashboard's token is in secrets/token"
