#!/usr/bin/env bash
# Boot a root file system, copy-on-write, as a real systemd host, and run a command in it as a service.
#
#   tests/system/host.sh [--root DIRECTORY] COMMAND [ARGUMENTS]
#
# The root is this machine's own, or that of another release, which tests/system/make_root.sh has made.
#
# The command's output comes out live, and its exit status is passed on. It runs as root in the current directory, with
# the caller's environment. What it writes there stays; every other change is gone afterwards: the host's root is an
# overlay, /tmp, /run and /nix are empty and in memory. There is no network but a loopback of the host's own.
#
# In the host run systemd, D-Bus and a Nix daemon; tests/system/host is laid over its root, and `nixos-container` is the
# stand-in beside this file, unless the root has a real one or $HIVE_NIXOS_CONTAINER names one (the Perl script, also as
# it is in nixpkgs). Containers see the root's /usr, the checkout and the Python of the PATH, all read-only: what on
# NixOS a closure depends on in the store.
#
# Exit status 77, with one line that says why: such a host cannot be booted here.
set -euo pipefail

readonly CANNOT=77
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
checkout=$(CDPATH='' cd -- "$here/../.." && pwd -P)
place=$(pwd -P)

cannot() {
    printf 'no systemd host for tests: %s\n' "$*" >&2
    exit "$CANNOT"
}

root=/
if [ "${1-}" = --root ] && [ $# -gt 1 ]; then
    root=$(CDPATH='' cd -- "$2" && pwd -P) || cannot "there is no root in $2"
    shift 2
fi
[ $# -gt 0 ] || {
    echo "usage: $0 [--root DIRECTORY] COMMAND [ARGUMENTS]" >&2
    exit 2
}
[ "$(id -u)" -eq 0 ] || cannot "this needs root"
command -v systemd-nspawn >/dev/null || cannot "systemd-nspawn is missing (Debian package systemd-container)"
real=${HIVE_NIXOS_CONTAINER:-}
[ -z "$real" ] || [ -f "$real" ] || cannot "HIVE_NIXOS_CONTAINER names $real, which is no file"
case "$checkout$place$root" in
    *:* | *\\*) cannot "systemd-nspawn cannot bind a path with a colon or a backslash: $place" ;;
esac

# A command in the root.
in_root() {
    if [ "$root" = / ]; then "$@"; else chroot "$root" env PATH="$path" "$@"; fi
}

# The hive's programs are those of this checkout, also where the root's Python environment was made for another.
if [ "$root" = / ]; then path=$PATH; else path=/usr/local/bin:/opt/hyperhive/bin:/usr/bin:/usr/sbin; fi
in_root test -x /lib/systemd/systemd || cannot "systemd is not installed"
for program in systemd-nspawn:systemd-container dbus-daemon:dbus nix-daemon:nix-bin nix:nix-bin python3:python3; do
    in_root sh -c "command -v ${program%:*}" >/dev/null ||
        cannot "${program%:*} is missing (Debian package ${program#*:})"
done
if [ -n "$real" ]; then
    for module in File::Slurp:libfile-slurp-perl IPC::Run:libipc-run-perl; do
        in_root perl "-M${module%:*}" -e 1 2>/dev/null ||
            cannot "HIVE_NIXOS_CONTAINER needs Perl's ${module%:*} (Debian package ${module##*:})"
    done
fi
python=$(in_root sh -c 'command -v python3')

# A root must not be made anew while a host is up on it.
if [ "$root" != / ] && command -v flock >/dev/null; then
    exec 8>"$root.lock"
    flock --shared 8
fi

scratch=$(mktemp -d /var/tmp/hive-host.XXXXXX)
id=hive-host-${scratch##*.}
groups=()
nspawn=

# --- the end ------------------------------------------------------------------------------------------------

# shellcheck disable=SC2317,SC2329 # called by a trap
clean_up() {
    trap - EXIT INT TERM
    if [ -n "$nspawn" ] && kill -TERM "$nspawn" 2>/dev/null; then
        for _ in {1..100}; do
            kill -0 "$nspawn" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$nspawn" 2>/dev/null || :
        wait "$nspawn" || :
    fi
    # The kernel lets go of a group a moment after its last process.
    for group in "${groups[@]}"; do
        for _ in {1..40}; do
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || :
            [ -d "$group" ] || break
            sleep 0.05
        done
    done
    rm -rf --one-file-system "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- control groups -----------------------------------------------------------------------------------------

# A group of the host's own in every hierarchy, below the one we are in: limits are tried there, and it can be removed.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then # version 2
    groups+=("/sys/fs/cgroup/$id")
    mkdir "${groups[0]}" 2>/dev/null || cannot "/sys/fs/cgroup cannot be written"
    for controller in memory cpu pids io; do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || :
    done
else
    while IFS=: read -r _ controllers group; do
        case $controllers in
            '') hierarchy=unified ;;
            name=*) hierarchy=${controllers#name=} ;;
            *) hierarchy=$controllers ;;
        esac
        # A new group of cpuset would first have to be given processors.
        if [ "$hierarchy" = cpuset ] || [ ! -d "/sys/fs/cgroup/$hierarchy" ]; then continue; fi
        directory=/sys/fs/cgroup/$hierarchy${group%/}/$id
        mkdir "$directory" 2>/dev/null || cannot "/sys/fs/cgroup/$hierarchy cannot be written"
        groups+=("$directory")
    done </proc/self/cgroup
fi
[ ${#groups[@]} -gt 0 ] || cannot "there are no control groups in /sys/fs/cgroup"

# --- what is shared with the host ---------------------------------------------------------------------------

# `io`: the command, its environment and its output. `disk`: directories that need a file system with idmapped mounts,
# which overlayfs is not.
mkdir "$scratch/root" "$scratch/memory" "$scratch/io" "$scratch/disk"
[ "$(stat -f -c %T "$scratch")" != overlayfs ] || mount -t tmpfs -o mode=0755 tmpfs "$scratch/disk"
mkdir "$scratch/disk/containers" "$scratch/disk/hyperhive"
# What agents can write is without setuid programs and devices, as the NixOS module mounts it.
readonly WITHOUT=nosuid,nodev
mkfifo "$scratch/io/output"
{
    printf 'cd %q && exec' "$place"
    printf ' %q' "$@"
} >"$scratch/io/command"
export -p | grep -Ev ' (PWD|OLDPWD|SHLVL|_|NOTIFY_SOCKET|LISTEN_[A-Z]+|INVOCATION_ID|JOURNAL_STREAM)(=|$)' \
    >"$scratch/io/environment" || :
[ "$root" = / ] || printf 'export PATH=%q\nunset VIRTUAL_ENV PYTHONPATH PYTHONHOME\n' "$path" >>"$scratch/io/environment"

# The checkout, and the Python of the PATH with all that it imports from.
{
    echo "$checkout"
    in_root python3 -I -c 'import sys; print(sys.prefix, sys.base_prefix, sep="\n")'
} | sort -u | while read -r directory; do
    # What lies in /usr or in the checkout is seen anyway.
    case $directory in
        /usr | /usr/* | "$checkout"/*) ;;
        *) printf '%s\n' "$directory" ;;
    esac
done >"$scratch/io/dependencies"

binds=(--bind="$place" --bind="$scratch/io:/run/host-io")
while read -r directory; do
    # Those of another root are in it.
    if [ "$directory" = "$place" ] || { [ "$root" != / ] && [ "$directory" != "$checkout" ]; }; then continue; fi
    binds+=(--bind-ro="$directory")
done <"$scratch/io/dependencies"

cat >"$scratch/io/boot" <<'BOOT'
#!/bin/sh
# On version 1, nspawn mounts the control groups read-only: limits would be shown by systemd but not be in force.
for controller in memory cpu cpuacct pids blkio devices; do
    [ ! -d "/sys/fs/cgroup/$controller" ] || mount -o remount,bind,rw "/sys/fs/cgroup/$controller" || exit
done
# nspawn makes only the usual devices. The mode is that of udev.
[ ! -e /sys/class/misc/fuse ] || mknod -m 0666 /dev/fuse c 10 229
# Units of the machine that are none of the tests' business would start as well, were the target the default one.
exec /lib/systemd/systemd systemd.unit=tests.target systemd.show_status=0 systemd.firstboot=no \
    systemd.mask=systemd-timesyncd.service
BOOT
chmod +x "$scratch/io/boot"

# --- boot ---------------------------------------------------------------------------------------------------

# Since 257 nspawn hides parts of /proc, and a sandbox in the host could not mount one of its own.
settings=(SYSTEMD_NSPAWN_API_VFS_WRITABLE=1)
# Since 258 systemd knows version 2 of the control groups alone. Where the machine has version 1, the host gets the tree
# of version 2 that has no controllers: limits cannot be tried there.
if [ "$(in_root systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')" -ge 258 ]; then
    settings+=(SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1)
fi

# In a mount namespace of its own: lay out the root and become nspawn.
# shellcheck disable=SC2016 # expanded by the inner shell
readonly LAY_OUT='
    scratch=$1 here=$2 checkout=$3 root=$4 python=$5 real=$6 without=$7
    shift 7
    for directory in containers hyperhive; do
        mount --bind "$scratch/disk/$directory" "$scratch/disk/$directory"
        mount -o "remount,bind,$without" "$scratch/disk/$directory"
    done
    mount -t tmpfs -o mode=0755 tmpfs "$scratch/memory"
    mkdir "$scratch/memory/upper" "$scratch/memory/work"
    mount -t overlay -o "lowerdir=$root,upperdir=$scratch/memory/upper,workdir=$scratch/memory/work" overlay "$scratch/root"
    # Everything is written from within the root: a link there may be absolute, and would lead out of it otherwise.
    in_host() { PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin chroot "$scratch/root" "$@"; }
    # put PATH MODE: a file with what is read.
    put() { in_host sh -euc "mkdir -p \"\${1%/*}\"; rm -f \"\$1\"; cat >\"\$1\"; chmod \"\$2\" \"\$1\"" _ "$@"; }
    tar -C "$here/host" -c . | in_host tar -x --no-same-owner --keep-directory-symlink
    in_host mkdir -p /etc/nixos-containers /var/lib/nixos-containers
    # The hive as a package would install it, and the stand-in unless there is the real one.
    programs="hive-c0re:hive_core hive-ag3nt:hive_agent hive-m1nd:hive_manager"
    if [ -n "$real" ]; then
        # What nixpkgs puts in when it builds the package.
        sed -e "s|@perl@|/usr|g; s|@su@|/usr/bin/su|g; s|@utillinux@|/usr|g; s|@util-linux@|/usr|g" \
            -e "s|@lib@|/usr/local/lib/nixpkgs/lib|g" \
            -e "s|@configurationDirectory@|/etc/nixos-containers|g; s|@stateDirectory@|/var/lib/nixos-containers|g" \
            "$real" | put /usr/local/bin/nixos-container 0755
    elif ! in_host sh -c "command -v nixos-container" >/dev/null; then
        programs+=" nixos-container:tests.helpers.fake_nixos_container"
    fi
    for program in $programs; do
        printf "#!/bin/sh\nexport PYTHONPATH=%q NIXOS_CONTAINER_PROGRAM=\"\$0\"\nexec %q -P -m %s \"\$@\"\n" \
            "$checkout" "$python" "${program#*:}" | put "/usr/local/bin/${program%:*}" 0755
    done
    # The Python of the tests may lie where the units see nothing, and on version 1 of the control groups one writes
    # to a file to hear of what happens in a group.
    {
        printf "[Service]\nProtectHome=tmpfs\n"
        while read -r directory; do printf "BindReadOnlyPaths=%s\n" "$directory"; done <"$scratch/io/dependencies"
    } >"$scratch/here.conf"
    for service in egress relay dashboard; do
        put "/etc/systemd/system/hive-$service.service.d/here.conf" 0644 <"$scratch/here.conf"
    done
    {
        cat "$scratch/here.conf"
        [ -e /sys/fs/cgroup/cgroup.controllers ] || echo ProtectControlGroups=false
    } | put /etc/systemd/system/hive-c0re.service.d/here.conf 0644
    # A journal that the machine keeps would have to be read through at every look.
    in_host rm -rf /var/log/journal
    systemd-sysusers --root="$scratch/root" nixbld.conf hyperhive.conf
    exec "$@"'

# The reader stays until the last writer has closed, which is us: the host may end without having written.
exec 3<>"$scratch/io/output"
cat <"$scratch/io/output" 3>&- &
reader=$!
(
    for group in "${groups[@]}"; do echo "$BASHPID" >"$group/cgroup.procs"; done
    # Killed with this script, however that ends.
    exec setpriv --pdeathsig KILL unshare --mount --propagation private bash -euc "$LAY_OUT" _ \
        "$scratch" "$here" "$checkout" "$root" "$python" "$real" "$WITHOUT" \
        env "${settings[@]}" systemd-nspawn --quiet --directory="$scratch/root" --register=no --keep-unit --link-journal=no \
        --machine=hive-host --kill-signal=SIGRTMIN+3 --resolv-conf=off --timezone=off --private-network \
        --tmpfs="/nix:mode=0755,$WITHOUT" \
        --bind="$scratch/disk/containers:/var/lib/nixos-containers" --bind="$scratch/disk/hyperhive:/var/lib/hyperhive" \
        "${binds[@]}" /run/host-io/boot
) </dev/null >"$scratch/log" 2>&1 3>&- &
nspawn=$!
status=0
wait "$nspawn" || status=$?
nspawn=
exec 3>&-
wait "$reader" || :
[ -e "$scratch/io/started" ] || cannot "it does not boot: $(tail -n 1 "$scratch/log")"
exit "$status"
