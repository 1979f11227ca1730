#!/bin/sh
# Says in one line what is missing before anything is installed; as root on Debian or Ubuntu, installs it.
python=${1:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "mxcensus needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.12 ..." >&2
    exit 2
fi
"$python" -c 'import ensurepip' 2>/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null && exit 0
fi
echo "the module venv is missing: install the package python3-venv" >&2
exit 2
