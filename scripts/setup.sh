#!/bin/sh
# Makes this checkout runnable: Debian packages, .venv, pinned Python packages, the three programs in .venv/bin.
#
#   scripts/setup.sh demo    what `make demo` needs
#   scripts/setup.sh lab     that, and what the kernel lab needs (lab/README.md)
#   scripts/setup.sh test    all that, and the peers and devices of the tests
#
# Quick when nothing is to do. Installing packages starts no service: a policy-rc.d is put in place for the time of the installation if
# there is none, and units of packages that were not here before are disabled, so that the next boot does not start them either.
set -eu

profile=${1:-demo}
cd "$(dirname "$0")/.."
root=$PWD
policy=/usr/sbin/policy-rc.d
mark='# temporary, by brainctl scripts/setup.sh'

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

case $profile in
    demo) lists="scripts/apt-demo.txt" ;;
    lab) lists="scripts/apt-demo.txt scripts/apt-lab.txt" ;;
    test) lists="scripts/apt-demo.txt scripts/apt-lab.txt scripts/apt-test.txt" ;;
    *) die "unknown profile '$profile'; use demo, lab or test" ;;
esac

# ---- Debian packages -------------------------------------------------------------------------------------------------------------------
missing_packages() {
    for package in $(sed -e 's/#.*//' $lists); do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$state" = installed ] || printf '%s ' "$package"
    done
}

remove_own_policy() {
    if [ -f "$policy" ] && grep -qxF "$mark" "$policy"; then rm -f "$policy"; fi
}

install_packages() {
    [ "$(id -u)" = 0 ] || die "these Debian packages are missing: $*; run as root, or: apt-get install --no-install-recommends $*"
    command -v apt-get >/dev/null || die "apt-get not found; set-up knows Debian 12 only. Install by hand: $*"
    say "installing $*"
    trap remove_own_policy EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    remove_own_policy    # one that a killed run left behind
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.$$"
        chmod 755 "$policy.$$"
        ln "$policy.$$" "$policy" 2>/dev/null || true    # never overwrites
        rm -f "$policy.$$"
    fi
    units_before=$(unit_files)
    export DEBIAN_FRONTEND=noninteractive
    apt_log=$(mktemp)
    apt_install "$@" || { apt-get update -qq >/dev/null && apt_install "$@"; } || { cat "$apt_log" >&2; die "apt-get could not install $*"; }
    rm -f "$apt_log"
    disable_new_units "$units_before"
    remove_own_policy
    trap - EXIT INT TERM HUP
}

apt_install() {
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >"$apt_log" 2>&1
}

unit_files() { find /lib/systemd/system /usr/lib/systemd/system -name '*.service' -printf '%f\n' 2>/dev/null | sort -u; }

disable_new_units() {
    command -v systemctl >/dev/null || return 0
    unit_files | while read -r unit; do
        case "
$1
" in *"
$unit
"*) continue ;; esac
        case $unit in *@.service) continue ;; esac
        systemctl --root=/ disable "$unit" >/dev/null 2>&1 || true
    done
}

missing=$(missing_packages)
# shellcheck disable=SC2086
[ -z "$missing" ] || install_packages $missing

# ---- The lab ----------------------------------------------------------------------------------------------------------------------------
if [ "$profile" != demo ] && [ ! lab/build/wide_xstate.so -nt lab/wide_xstate.c ]; then
    mkdir -p lab/build
    cc -O2 -Wall -shared -fPIC -o lab/build/wide_xstate.so lab/wide_xstate.c || die "cannot build lab/wide_xstate.c"
fi

# ---- Python ----------------------------------------------------------------------------------------------------------------------------
find_python() {
    for candidate in python3.11 python3.12 python3.13 python3 /usr/bin/python3; do
        real=$(cd / && "$candidate" -c 'import sys, ensurepip; print(sys.executable if sys.version_info >= (3, 11) else "")' 2>/dev/null || true)
        if [ -n "$real" ]; then echo "$real"; return; fi
    done
}

stamp=$(cat requirements.lock pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/brainctl ] && [ "$(cat .venv/.setup-stamp 2>/dev/null)" = "$stamp $root" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(find_python)
    [ -n "$python" ] || die "no Python 3.11 or later with ensurepip; apt-get install python3 python3-venv"
    say "making .venv with $python"
    "$python" -m venv --clear .venv
fi
say "installing the pinned Python packages"
PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_DISABLE_PIP_VERSION_CHECK
pip_install() {
    pip_log=$(mktemp)
    .venv/bin/python -m pip install -q "$@" >"$pip_log" 2>&1 || { cat "$pip_log" >&2; die "pip could not install $*"; }
    rm -f "$pip_log"
}
pip_install -r requirements.lock
pip_install --no-deps --no-build-isolation --editable .
printf '%s %s\n' "$stamp" "$root" >.venv/.setup-stamp
say "ready: .venv/bin/brainctl, .venv/bin/braind, .venv/bin/vrrpd"
