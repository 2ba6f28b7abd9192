#!/bin/sh
# Installs what the tests need on Debian or Ubuntu: a private Ceph with its S3 gateway, the Java that
# Spark runs on, and strace, which shows that a warm read makes no system call.
# Says nothing and changes nothing where it is there already. Needs root, or sudo without a password.
set -eu

binaries="radosgw radosgw-admin ceph-mon ceph-osd ceph ceph-authtool monmaptool setpriv java strace"
packages="radosgw ceph-mon ceph-osd ceph-common util-linux openjdk-17-jre-headless strace"
# Another apt run (a machine's first boot) rarely takes longer than this.
lock_seconds=300

missing=""
for binary in $binaries; do
    command -v "$binary" >/dev/null 2>&1 || missing="$missing $binary"
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null 2>&1 || {
    echo "install.sh: missing:$missing; there is no apt-get here, install $packages by hand" >&2
    exit 1
}
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "install.sh: missing:$missing; run this as root, or as a user with sudo" >&2
    exit 1
fi

# Packages of servers start them at once; a test machine must not run a Ceph of its own.
policy=/usr/sbin/policy-rc.d
placed=""
log=$(mktemp)
finish() {
    [ -z "$placed" ] || $as_root rm -f "$policy"
    rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ ! -e "$policy" ]; then
    placed=yes
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

run() {
    $as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 || {
        echo "install.sh: '$*' failed:" >&2
        tail -n 20 "$log" >&2
        exit 1
    }
}
run apt-get -o "DPkg::Lock::Timeout=$lock_seconds" -o Acquire::Retries=3 update
# shellcheck disable=SC2086 # the list is meant to be split into words
run apt-get -o "DPkg::Lock::Timeout=$lock_seconds" -o Acquire::Retries=3 \
    install -y --no-install-recommends $packages
