#!/bin/sh
# A picture of a page for the documentation: scripts/screenshot.sh PAGE.html PICTURE.png [WIDTHxHEIGHT]
# Needs Debian's chromium; its profile is a new, temporary one.
set -eu
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$profile" \
    --window-size="${3:-1100,1500}" --screenshot="$2" "file://$(realpath "$1")" 2>/dev/null
