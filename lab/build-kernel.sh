#!/bin/bash
# Builds lab/kernel: User-Mode Linux of our own configuration (kernel.config) from Debian's signed linux-source. Optional: `lab/run` takes
# Debian's packaged kernel when this one is not there. It boots in under a second and has all families of nftables. Minutes of CPU, 14 MB.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
version=${LAB_LINUX:-7.2}    # seccomp mode, which makes UML fast, needs 6.16 or later

[ "$(id -u)" = 0 ] || { echo "build-kernel: must be root" >&2; exit 1; }
if [ -x "$here/kernel/linux" ] && cmp -s "$here/kernel.config" "$here/kernel/config.built"; then
    echo "build-kernel: lab/kernel is up to date ($(ls "$here/kernel/modules"))"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
tools="gcc make libc6-dev flex bison bc xz-utils"
install_tools() { apt-get install -y -qq --no-install-recommends $tools; }
install_tools || { apt-get update -qq && install_tools; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# The source package of a newer Debian, without touching the system's apt set-up.
mkdir -p apt/lists/partial apt/cache/archives/partial src
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk '$2 !~ /-/ {print $1; exit}')
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie-backports main" >apt/sources.list
cat >apt/apt.conf <<EOF
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/apt/lists";
Dir::Cache "$work/apt/cache";
APT::Sandbox::User "root";
EOF
export APT_CONFIG=$work/apt/apt.conf
apt-get update -qq
if ! apt-cache show "linux-source-$version" >/dev/null 2>&1; then    # gone: the newest
    version=$(apt-cache pkgnames linux-source- | sed -n 's/^linux-source-\([0-9.]*\)$/\1/p' | sort -V | tail -n1)
fi
echo "build-kernel: Linux $version"
apt-get download -qq "linux-source-$version"
dpkg-deb --fsys-tarfile linux-source-*.deb | tar -xO "./usr/src/linux-source-$version.tar.xz" | xz -dc -T0 | tar -x --strip-components=1 -C src

cd src
KCONFIG_ALLCONFIG=$here/kernel.config make -s ARCH=um allnoconfig
grep -E '^CONFIG_.*=[ym]$' "$here/kernel.config" | while read -r want; do
    grep -qx "${want%=*}=[ym]" .config || echo "build-kernel: warning: not in Linux $version: $want" >&2
done
make -s ARCH=um -j"$(nproc)" all
make -s ARCH=um INSTALL_MOD_PATH="$work/out" INSTALL_MOD_STRIP=1 modules_install
strip -o "$work/out/linux" linux
mv "$work/out/lib/modules" "$work/out/modules"
rm -rf "$work"/out/lib "$work"/out/modules/*/build
cp "$here/kernel.config" "$work/out/config.built"
rm -rf "$here/kernel"
mv "$work/out" "$here/kernel"
ls "$here/kernel/modules"
