#!/bin/sh
# The programs that tests/lab runs: real Postfix, Exim, NSD, Unbound, PostgreSQL, the openssl command and Chromium.
# As root on Debian or Ubuntu, installs what is missing and starts no service; elsewhere says what is missing and
# leaves it at that, since the tests skip. LAB=require makes anything missing an error.
#
# Postfix and Exim conflict as packages, so Exim is unpacked under .lab/exim and only its libraries are installed.
# With the word `matrix`: what the software matrix needs instead, to make its roots and to fetch Haraka.
set -u
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/.." || exit 1
lab=$PWD/.lab
exim=$lab/exim/usr/sbin/exim4
for=${1:-tests}
case $for in
    matrix) programs="postfix openssl debootstrap node npm" ;;
    *) programs="postfix nsd unbound openssl chromium" ;;
esac

postgresql() {
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

exim_runs() {  # unpacked, every shared library found, and the user that Debian compiled into it exists
    [ -x "$exim" ] && ! ldd "$exim" | grep -q 'not found' && id Debian-exim >/dev/null 2>&1
}

missing() {
    for program in $programs; do
        command -v $program >/dev/null || echo $program
    done
    [ "$for" = matrix ] || postgresql || echo postgresql
    exim_runs || echo exim4
}

finish() {
    left=$(missing)
    [ -z "$left" ] && exit 0
    for name in $left; do
        echo "lab: $name is missing$1; the tests that need it are skipped" >&2
    done
    [ "${LAB:-}" = require ] && exit 1
    exit 0
}

wanted=$(missing)
[ -z "$wanted" ] && exit 0
[ "$(id -u)" = 0 ] || finish " (not root, so nothing is installed)"
command -v apt-get >/dev/null || finish " (neither Debian nor Ubuntu, so nothing is installed)"

export DEBIAN_FRONTEND=noninteractive
# No service starts while we install: invoke-rc.d asks this file first.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
    trap 'rm -f $policy' EXIT
    trap 'exit 130' INT TERM
fi

quietly() {  # the output of a command is worth reading only when it fails
    log=$("$@" 2>&1) || { printf '%s\n' "$log" | tail -n 20 >&2; return 1; }
}

# --no-remove: a mail server that somebody uses here is never replaced by ours.
apt() {
    quietly apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

install() {
    [ $# -eq 0 ] || apt install -y --no-install-recommends --no-remove "$@"
}

fetch_exim() (
    # A package is fetched with the version that the index names, so a stale index shows here as an error.
    mkdir -p "$lab/deb" && cd "$lab/deb" || exit 1
    rm -f exim4-*.deb
    apt -o APT::Sandbox::User=root download exim4-daemon-light exim4-base || exit 1
    # shellcheck disable=SC2046  # one word a package
    install $(for deb in exim4-*.deb; do dpkg-deb -f "$deb" Depends; done | tr ',' '\n' |
        sed -n 's/^ *\(lib[a-z0-9.+-]*\).*/\1/p' | sort -u) || exit 1
    for deb in exim4-*.deb; do dpkg-deb -x "$deb" "$lab/exim" || exit 1; done
    id Debian-exim >/dev/null 2>&1 || useradd --system --no-create-home --user-group \
        --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
)

everything() {
    packages=
    for name in $wanted; do
        case $name in
            exim4) ;;
            node) packages="$packages nodejs" ;;
            *) packages="$packages $name" ;;
        esac
    done
    # shellcheck disable=SC2086  # one word a package
    install $packages || return 1
    exim_runs || fetch_exim || return 1
}

echo "lab: installing" $wanted >&2
echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections 2>/dev/null
# The index is refreshed only where it is empty or too old to install from.
if ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then
    apt update
    everything
else
    everything || { apt update; everything; }
fi
# On a machine with systemd nothing of ours starts at the next boot either.
if [ -d /run/systemd/system ]; then
    for name in $wanted; do
        systemctl disable --quiet "$name" 2>/dev/null
    done
fi
finish ""
