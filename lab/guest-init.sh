# Process 1 of the lab's guest, run by bash. uml.py puts before it: WRITABLE and COMMAND (arrays), CWD, LAB_DIR, MODULES.
# Consoles: tty1 = standard output, tty2 = standard error, tty3 = "boot", then the exit status of COMMAND.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
die() {
    echo "guest-init: $*" >&2
    echo o >/proc/sysrq-trigger
    sleep 10
}

# ---- The host's files under an overlay; what must not be the host's is mounted anew -----------------------------------------------------
root=/run/root
mount -t proc proc /proc
grep -qw overlay /proc/filesystems || insmod "$MODULES/$(uname -r)/kernel/fs/overlayfs/overlay.ko"
mount -t tmpfs lab /run && mkdir /run/up /run/work $root || die tmpfs
mount -t overlay -o lowerdir=/,upperdir=/run/up,workdir=/run/work overlay $root || die overlay
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup 2>/dev/null
mount -t devtmpfs dev $root/dev
mkdir -p $root/dev/pts $root/dev/shm $root/lib/modules
mount -t devpts -o ptmxmode=666 devpts $root/dev/pts
mount -t tmpfs -o mode=1777 shm $root/dev/shm
mount -t tmpfs -o mode=755 run $root/run
mkdir -p -m 1777 $root/run/lock
mkdir $root/run/lab && mount -t hostfs -o "$LAB_DIR" lab $root/run/lab || die lab
ln -sf /proc/self/fd $root/dev/fd
ln -sf fd/0 $root/dev/stdin
ln -sf fd/1 $root/dev/stdout
ln -sf fd/2 $root/dev/stderr
for directory in "${WRITABLE[@]}"; do
    mkdir -p "$root$directory" && mount -t hostfs -o "$directory" host "$root$directory" || die "share $directory"
done
[ -d "$MODULES" ] && mount -t hostfs -o "$MODULES" modules $root/lib/modules
mkdir $root/run/old
cd $root && pivot_root . run/old || die pivot_root
umount -l /run/old
rmdir /run/old
hostname lab
modprobe -q ipv6    # a module in Debian's kernel, and `ip` does not load it
ip link set lo up
ulimit -n 65536

# ---- COMMAND, its output through pipes so that nothing of it is lost when the guest ends -------------------------------------------------
exec 3>/dev/tty3
for tty in 1 2 3; do stty -F /dev/tty$tty raw -echo; done
echo boot >&3
cd /run && mkfifo out err || die fifo
cat out >/dev/tty1 3>&- &
pids=$!
cat err >/dev/tty2 3>&- &
pids="$pids $!"
(
    exec 3>&- >out 2>err
    rm out err
    . /run/lab/env
    cd "$CWD" && exec "${COMMAND[@]}"
) </dev/null
status=$?

# What COMMAND left behind may hold the pipes: end it (these are the guest's processes only), then let the rest drain.
for process in /proc/[0-9]*; do
    case " 1 $pids " in *" ${process#/proc/} "*) ;; *) kill -9 "${process#/proc/}" ;; esac
done 2>/dev/null
wait $pids
sync
echo "$status" >&3
exec 3>&-
echo o >/proc/sysrq-trigger
sleep 60
