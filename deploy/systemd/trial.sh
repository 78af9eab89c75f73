#!/bin/bash
# The units of this folder, started by a real systemd: installs them, sends datagrams, reloads, restarts,
# kills, and takes everything away again. For a machine or virtual machine that can be spared, as root:
#
#   bash deploy/systemd/trial.sh target/release/rotameter
#
# It ends at the first thing that does not hold, and says which. Needs curl. Ports 8125, 9125, 9102.
set -euo pipefail

binary=${1:?usage: trial.sh path/to/rotameter}
here=$(cd "$(dirname "$0")" && pwd)
installed=(/usr/local/bin/rotameter /etc/rotameter /etc/systemd/system/rotameter.service /etc/systemd/system/rotameter.socket)

say() { echo "trial: $*"; }
fail() { echo "trial: FAILED: $*" >&2; journalctl -u rotameter --no-pager -n 30 >&2; exit 1; }
metrics() { curl -sf http://127.0.0.1:9102/metrics; }
value() { metrics | awk -v name="$1" '$1 == name { print $2 }'; }
send() { for _ in $(seq "$2"); do echo "$1:1|c" > "/dev/udp/127.0.0.1/${3:-9125}"; done; }
# Waits up to a minute: an emulated machine takes its time.
until_is() {
    for _ in $(seq 120); do [ "$(value "$1")" = "$2" ] && return; sleep 0.5; done
    fail "$1 is '$(value "$1")', not $2"
}
until_active() {
    for _ in $(seq 120); do [ "$(systemctl is-active rotameter)" = active ] && return; sleep 0.5; done
    fail "the service is $(systemctl is-active rotameter)"
}
clean() {
    systemctl disable --quiet --now rotameter.socket rotameter.service 2>/dev/null || true
    rm -rf "${installed[@]}" /var/lib/rotameter /var/lib/private/rotameter
    systemctl daemon-reload
}

[ "$(id -u)" = 0 ] || { echo "trial: needs root" >&2; exit 2; }
for file in "${installed[@]}"; do
    [ ! -e "$file" ] || { echo "trial: $file is there: this is for a machine without Rotameter" >&2; exit 2; }
done
trap clean EXIT
install -D -m 755 "$binary" /usr/local/bin/rotameter
install -D -m 644 "$here/rotameter.env" /etc/rotameter/rotameter.env
install -m 644 "$here/rotameter.service" "$here/rotameter.socket" /etc/systemd/system/
systemctl daemon-reload
said=$(systemd-analyze verify rotameter.service rotameter.socket 2>&1 | grep rotameter || true)
[ -z "$said" ] || fail "systemd-analyze verify: $said"

# `start` returns only after the daemon has notified.
systemctl start rotameter.service || fail "systemctl start"
pid=$(systemctl show -p MainPID --value rotameter)
status=$(cat "/proc/$pid/status")
grep -q '^Uid:.0' <<< "$status" && fail "it runs as root"
grep -q '^CapEff:.000000c000001000$' <<< "$status" || fail "other capabilities: $(grep Cap <<< "$status")"
grep -q '^NoNewPrivs:.1$' <<< "$status" || fail "NoNewPrivs is off"
[ -d /var/lib/rotameter/ ] || fail "no state directory"
say "started, $(systemd-analyze security rotameter.service --no-pager | tail -1)"
[ "$(value 'rotameter_door_open{door="socket_filter"}')" = 2 ] || say "note: the socket filter is off on this machine"

send airflow.ti_successes 50 9125
send airflow.ti_successes 30 8125
until_is airflow_task_successes_total 80
say "80 datagrams counted"

systemctl reload rotameter
until_is 'statsd_exporter_config_reloads_total{outcome="success"}' 1
say "reloaded"

systemctl stop rotameter
[ "$(systemctl show -p Result --value rotameter)" = success ] || fail "it did not stop well"
say "stopped"

echo 'ROTAMETER_FLAGS=--no-such-flag' > /etc/rotameter/rotameter.env
systemctl start --no-block rotameter
for _ in $(seq 240); do [ "$(systemctl show -p NRestarts --value rotameter)" -ge 6 ] && break; sleep 0.5; done
[ "$(systemctl show -p NRestarts --value rotameter)" -ge 6 ] || fail "it gave up after a few failures"
echo 'ROTAMETER_FLAGS=' > /etc/rotameter/rotameter.env
until_active
say "a broken configuration that is mended is picked up"
systemctl stop rotameter

systemctl start rotameter.socket
send trial.first 7
until_is trial_first 7
say "started by its socket; what came before the start is counted"

# A shell's own kill: the daemon gets no chance to take its filter off the sockets that systemd holds.
killed=$(systemctl show -p MainPID --value rotameter)
kill -KILL "$killed"
for _ in $(seq 120); do
    pid=$(systemctl show -p MainPID --value rotameter)
    [ "$pid" != "$killed" ] && [ "$pid" != 0 ] && break
    sleep 0.5
done
until_active
send trial.second 9
until_is trial_second 9
until_is 'rotameter_lost_datagrams_total{where="udp_socket_queue"}' 0
say "killed: its successor counts on the same sockets"

systemctl stop rotameter.socket rotameter.service
say "all of it holds"
