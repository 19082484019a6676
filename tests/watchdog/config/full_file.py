"""A brain.toml in which every table and nearly every key is written out."""

FULL = """\
version = 1
[cluster]
name = "web"
key_file = "/etc/brainctl/cluster.key"
[node.A]
rank = 1
addresses = ["10.0.0.1", "10.9.0.1"]
[node.B]
rank = 2
addresses = ["10.0.0.2", "10.9.0.2"]
[policy]
mode = "resolve"
confirm_ms = 800
settle_ms = 5000
yield_deadline_ms = 1500
planned_grace_ms = 2000
second_look_ms = 1500
barrier_ms = 2000
census_interval_ms = 1000
census_window_ms = 200
stall_ms = 500
[gate]
daemon = "keepalived"
config = "/etc/keepalived/keepalived.conf"
pid_file = "/run/keepalived.pid"
vrrp_pid_file = "/run/vrrp.pid"
vrrpd_socket = "/run/brainctl/vrrpd.sock"
hold_file = "/run/brainctl/gate/hold"
grant_file = "/run/brainctl/gate/grant"
bridge_adverts = true
[[path]]
name = "lan"
type = "ethernet"
medium = "service"
interface = "eth0"
interval_ms = 200
silent_after_ms = 1000
[[path]]
name = "hb"
type = "unicast"
interface = { A = "eth1", B = "ens4" }
address = { A = "10.9.0.1", B = "10.9.0.2" }
port = 6994
[[path]]
name = "group"
type = "multicast"
interface = "eth1"
group = "239.255.83.66"
[[path]]
type = "serial"
device = "/dev/ttyS0"
baud = 9600
[[reference]]
name = "gateway"
address = "10.0.0.254"
interface = "eth0"
interval_ms = 1000
silent_after_ms = 3000
[fence]
enabled = true
delay_ms = 60000
measured_ms = 2000
budget_per_hour = 3
proof_silence_ms = 2000
[[fence.level]]
target = "B"
name = "power"
[[fence.level.device]]
name = "bmc-B"
type = "agent"
agent = "fence_ipmilan"
deadline_ms = 20000
lanplus = true
ip = "10.9.9.2"
password_secret = "file:/etc/brainctl/ipmi"
[[fence.level]]
target = "A"
[[fence.level.device]]
type = "ssh"
host = "10.9.0.1"
[[alert]]
name = "mail"
type = "email"
to = ["a@example.com", "b@example.com"]
from = "brainctl@example.com"
smtp_port = 25
least_severity = "warning"
escalate_after_ms = 60000
"""
