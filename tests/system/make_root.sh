#!/usr/bin/env bash
# Make the root file system of a Debian release, in which tests/system/host.sh boots a host: systemd, Nix, git and
# bubblewrap in that release's versions, and a Python environment with what the tests need.
#
#   tests/system/make_root.sh RELEASE DIRECTORY      (bookworm, trixie, sid)
#
# Takes about 1.5 GB and three minutes. What is there already and fits is left as it is, so that a second call takes a
# moment; what cannot be renewed stays as it was. Packages come from the mirror that apt uses on this machine, with apt's
# settings of how to fetch and the machine's certificates; the Python packages from where pip on this machine gets them.
# The checkout is bound into the root at its own path.
#
# Exit status 69, with one line that says why: the release could not be installed.
set -euo pipefail

readonly CANNOT=69
release=$1 directory=$2
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
checkout=$(CDPATH='' cd -- "$here/../.." && pwd -P)
readonly ENVIRONMENT=/opt/hyperhive
readonly PACKAGES=(
    # Of the host itself.
    systemd systemd-container libnss-systemd dbus nix-bin git bubblewrap iproute2 curl jq e2fsprogs procps uidmap
    # Of upstreams that are reached by SSH.
    openssh-client openssh-server
    # Of the real nixos-container, which is a Perl script.
    perl libfile-slurp-perl libipc-run-perl
    # To build PyGObject, which has no wheels.
    ca-certificates python3 python3-venv python3-dev gcc libc6-dev pkg-config libcairo2-dev
    gir1.2-glib-2.0
)

say() { printf 'dev: %s\n' "$*" >&2; }

cannot() {
    [ ! -s "$log" ] || tail -n 5 "$log" >&2
    say "no root of $release: $*"
    exit "$CANNOT"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# PyGObject is built against girepository 2.0, which came with GLib 2.80, or against its predecessor. Sid is installed
# anew each week: it is there to show what comes.
case $release in
    bookworm) introspection=libgirepository1.0-dev girepository=1.0 state=$release ;;
    trixie) introspection=libgirepository-2.0-dev girepository=2.0 state=$release ;;
    sid) introspection=libgirepository-2.0-dev girepository=2.0 state="sid of week $(date +%G-%V)" ;;
    *) cannot "the releases are bookworm, trixie and sid" ;;
esac

# Each stage leaves a stamp in the root when all of it is done.
packages="$state ${PACKAGES[*]} $introspection"
requirements="$checkout $(cat "$checkout/pyproject.toml" "$checkout"/tests/constraints*.txt | cksum)"

stamped() { [ "$(cat "$directory/etc/hyperhive-$1" 2>/dev/null)" = "$2" ]; }

# Run a command of root $1 in it, with the machine's network, /proc and /dev, and the checkout at its own path.
enter() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --propagation private bash -euc '
        root=$1 checkout=$2
        shift 2
        mkdir -p "$root$checkout"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind "$checkout" "$root$checkout"
        exec chroot "$root" "$@"' _ "$1" "$checkout" "${@:2}" >"$log" 2>&1 </dev/null
}

# Copy files and directories of the machine to the same paths of root $1. What is not there, or is a link to nothing, is
# left out; a link of the root is replaced and not followed.
share() {
    for path in "${@:2}"; do
        [ -e "$path" ] || continue
        mkdir -p "$1$(dirname "$path")"
        cp -rL --remove-destination "$path" "$1$(dirname "$path")" 2>/dev/null || :
    done
}

install_release() {
    new=$directory.new
    say "installing Debian $release into $(basename "$directory") (1.5 GB, two minutes)"
    # What a killed run has left mounted there would keep it from being removed.
    findmnt --raw --noheadings --output TARGET | grep -F "$(readlink -f "$new")/" | sort -r | xargs -r umount --lazy || :
    rm -rf --one-file-system "$new"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -E '/debian/?$' | sort -u | head -n 1 || :)
    # In a mount namespace of its own, so that a killed run leaves nothing mounted.
    unshare --mount --propagation private debootstrap --variant=minbase --include=ca-certificates \
        "$release" "$new" ${mirror:+"$mirror"} >"$log" 2>&1 </dev/null || cannot "debootstrap failed, see above"
    share "$new" /etc/resolv.conf /etc/hosts /etc/ssl/certs /usr/local/share/ca-certificates /etc/apt/auth.conf.d
    # How this machine fetches; what else it sets for apt may be about its own release and programs.
    apt-config dump | grep '^Acquire::' >"$new/etc/apt/apt.conf.d/00machine" || :
    # Not by debootstrap, which does not know virtual packages.
    enter "$new" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "${PACKAGES[@]}" "$introspection" || cannot "its packages could not be installed, see above"
    rm -rf "$new"/var/cache/apt/archives/*.deb
    printf '%s\n' "$packages" >"$new/etc/hyperhive-packages"
    rm -rf --one-file-system "$directory"
    mv "$new" "$directory"
}

install_python() {
    say "installing the Python packages for Debian $release (a minute)"
    share "$directory" /etc/pip.conf /etc/xdg/pip /root/.config/pip
    old=$directory$ENVIRONMENT.old
    rm -rf "$old"
    [ ! -d "$directory$ENVIRONMENT" ] || mv "$directory$ENVIRONMENT" "$old"
    # shellcheck disable=SC2016 # expanded by the inner shell
    enter "$directory" /bin/sh -euc '
        cd "$1"
        export PIP_USER=0 PIP_CONSTRAINT="tests/constraints.txt $3" PIP_BUILD_CONSTRAINT="tests/constraints.txt $3"
        python3 -m venv "$2"
        exec "$2/bin/python" -m pip install -q --no-input --disable-pip-version-check -e ".[dev,nixos]"
        ' _ "$checkout" "$ENVIRONMENT" "tests/constraints-girepository-$girepository.txt" || {
        rm -rf "${directory:?}$ENVIRONMENT"
        [ ! -d "$old" ] || mv "$old" "$directory$ENVIRONMENT"
        cannot "the Python packages could not be installed, see above"
    }
    printf '%s\n' "$requirements" >"$directory/etc/hyperhive-python.new"
    mv "$directory/etc/hyperhive-python.new" "$directory/etc/hyperhive-python"
    rm -rf "$old"
}

mkdir -p "$(dirname "$directory")"
if command -v flock >/dev/null; then
    # Not while a host is up on it, nor twice at a time.
    exec 8>"$(readlink -f "$(dirname "$directory")")/$(basename "$directory").lock"
    if stamped packages "$packages" && stamped python "$requirements"; then exit; fi
    flock 8
fi
stamped packages "$packages" || install_release
stamped python "$requirements" || install_python
