#!/usr/bin/env bash
# Make the root file system of a Debian release, in which tests/system/host.sh boots a host: systemd, Nix, git and
# bubblewrap in that release's versions, and a Python environment with what the tests need.
#
#   tests/system/make_root.sh RELEASE DIRECTORY      (bookworm, trixie, sid)
#
# Takes about 1.5 GB and three minutes. What is there already and fits is left as it is, so that a second call takes a
# moment. Packages come from the mirror that apt uses on this machine, with apt's own settings and certificates; the
# Python packages from where pip on this machine gets them. The checkout is bound into the root at its own path.
#
# Exit status 69, with one line that says why: the release could not be installed.
set -euo pipefail

readonly CANNOT=69
release=$1 directory=$2
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
checkout=$(CDPATH='' cd -- "$here/../.." && pwd -P)
environment=/opt/hyperhive
readonly PACKAGES=(
    # Of the host itself.
    systemd systemd-container libnss-systemd dbus nix-bin git bubblewrap iproute2 curl jq e2fsprogs procps uidmap
    # Of the real nixos-container, which is a Perl script.
    perl libfile-slurp-perl libipc-run-perl
    # To build PyGObject, which has no wheels.
    ca-certificates python3 python3-venv python3-dev gcc libc6-dev pkg-config libcairo2-dev
    gir1.2-glib-2.0
)

say() { printf 'dev: %s\n' "$*" >&2; }

cannot() {
    say "no root of $release: $*"
    exit "$CANNOT"
}

# PyGObject is built against girepository 2.0, which came with GLib 2.80, or against its predecessor.
case $release in
    bookworm) introspection=libgirepository1.0-dev constraints=tests/constraints-girepository-1.0.txt ;;
    trixie | sid) introspection=libgirepository-2.0-dev constraints=tests/constraints-girepository-2.0.txt ;;
    *) cannot "the releases are bookworm, trixie and sid" ;;
esac

# Each stage leaves a stamp in the root, written when all of it is done.
packages_stamp=$directory/etc/hyperhive-packages
python_stamp=$directory/etc/hyperhive-python
packages="$release ${PACKAGES[*]} $introspection"
requirements="$checkout $(cat "$checkout/pyproject.toml" "$checkout"/tests/constraints*.txt | cksum)"

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Run a command of the root in it, with the machine's network, /proc and /dev, and the checkout at its own path.
enter() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --propagation private bash -euc '
        root=$1 checkout=$2
        shift 2
        mkdir -p "$root$checkout"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind "$checkout" "$root$checkout"
        exec chroot "$root" "$@"' _ "$directory" "$checkout" "$@"
}

# Copy a file or a directory of the machine to the same path of the root, if it is there.
share() {
    for path in "$@"; do
        [ ! -e "$path" ] || { mkdir -p "$directory$(dirname "$path")" && cp -rL --remove-destination "$path" "$directory$(dirname "$path")"; }
    done
}

if [ "$(cat "$packages_stamp" 2>/dev/null)" != "$packages" ]; then
    say "installing Debian $release into $(basename "$directory") (1.5 GB, two minutes)"
    rm -rf --one-file-system "$directory"
    mkdir -p "$directory"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -E '/debian/?$' | sort -u | head -n 1 || :)
    debootstrap --variant=minbase --include=ca-certificates "$release" "$directory" ${mirror:+"$mirror"} \
        >"$log" 2>&1 </dev/null || { tail -n 5 "$log" >&2; cannot "debootstrap failed, see above"; }
    share /etc/resolv.conf /etc/hosts /etc/ssl/certs /usr/local/share/ca-certificates /etc/apt/apt.conf.d \
        /etc/apt/auth.conf.d
    # Not by debootstrap, which does not know virtual packages.
    enter env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "${PACKAGES[@]}" "$introspection" >"$log" 2>&1 </dev/null ||
        { tail -n 5 "$log" >&2; cannot "its packages could not be installed, see above"; }
    rm -rf "$directory"/var/cache/apt/archives/*.deb
    printf '%s\n' "$packages" >"$packages_stamp"
fi
if [ "$(cat "$python_stamp" 2>/dev/null)" != "$requirements" ]; then
    say "installing the Python packages for Debian $release (a minute)"
    rm -rf "${directory:?}$environment"
    share /etc/pip.conf /etc/xdg/pip /root/.config/pip
    # shellcheck disable=SC2016 # expanded by the inner shell
    enter /bin/sh -euc '
        cd "$1"
        export PIP_USER=0 PIP_CONSTRAINT="tests/constraints.txt $3" PIP_BUILD_CONSTRAINT="tests/constraints.txt $3"
        python3 -m venv "$2"
        exec "$2/bin/python" -m pip install -q --no-input --disable-pip-version-check -e ".[dev,nixos]"
        ' _ "$checkout" "$environment" "$constraints" >"$log" 2>&1 </dev/null ||
        { tail -n 5 "$log" >&2; cannot "the Python packages could not be installed, see above"; }
    printf '%s\n' "$requirements" >"$python_stamp"
fi
