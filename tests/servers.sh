#!/bin/sh
# Installs the servers that the integration tests start for themselves (Debian packages).
# Nothing is left running: apt may not start the daemons, and those that it enables for the next boot are disabled
# again, but only in packages that were not there before.
#
# Exit status: 0 all there; 1 the installation failed; 3 something is missing and this user may not install it.
set -eu

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
POLICY=/usr/sbin/policy-rc.d

# Debian package, and the program in it that the tests call.
SERVERS="
mosquitto               mosquitto
mosquitto-clients       mosquitto_pub
influxdb                influxd
victoria-metrics        victoria-metrics
prometheus              promtool
prometheus-alertmanager amtool
chromium                chromium
openssl                 openssl
"

missing() {
    echo "$SERVERS" | while read -r package program; do
        if [ -n "$package" ] && ! command -v "$program" >/dev/null 2>&1; then
            echo "$package"
        fi
    done
}

# invoke-rc.d and deb-systemd-invoke ask this file; 101 forbids every start. A policy that was there comes back.
forbid_starts() {
    # A run that was killed has left its own policy in place, and the real one beside it.
    if [ -e "$POLICY" ] && [ ! -e "$POLICY.before-tocsin" ]; then
        mv "$POLICY" "$POLICY.before-tocsin"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

restore_policy() {
    rm -f "$POLICY"
    if [ -e "$POLICY.before-tocsin" ]; then
        mv "$POLICY.before-tocsin" "$POLICY"
    fi
}

disable_services() {
    for package in "$@"; do
        for service in $(dpkg-query --listfiles "$package" | sed -n 's,^/lib/systemd/system/\(.*\)\.service$,\1,p'); do
            if command -v systemctl >/dev/null 2>&1; then
                systemctl disable --quiet "$service.service" 2>/dev/null || true
            fi
        done
        for script in $(dpkg-query --listfiles "$package" | sed -n 's,^/etc/init\.d/\(.*\)$,\1,p'); do
            update-rc.d "$script" disable >/dev/null 2>&1 || true
        done
    done
}

install_as_root() {
    trap restore_policy EXIT
    trap 'exit 1' HUP INT TERM
    forbid_starts
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" </dev/null; } >"$LOG" 2>&1; then
        tail -n 30 "$LOG" >&2
        echo "servers: apt-get could not install: $* (above: its last lines)" >&2
        exit 1
    fi
    disable_services "$@"
}

packages=$(missing | tr '\n' ' ')
if [ -z "$packages" ]; then
    echo "servers: all installed"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "servers: missing: ${packages}(Debian's names). There is no apt-get here: install them by hand." >&2
    exit 3
fi
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        echo "servers: missing: ${packages}; asking sudo to install them"
        exec sudo sh "$0"
    fi
    echo "servers: missing, and installing needs root: apt-get install --no-install-recommends $packages" >&2
    exit 3
fi
echo "servers: installing ${packages}with apt-get (takes a minute or two; no service is started or enabled)"
LOG=$(mktemp)
# shellcheck disable=SC2086  # one word a package
install_as_root $packages
rm -f "$LOG"
left=$(missing | tr '\n' ' ')
if [ -n "$left" ]; then
    echo "servers: apt-get is content, but programs are missing of: $left" >&2
    exit 1
fi
echo "servers: installed"
