#!/usr/bin/env bash
# A Redis and its replica on loopback, in a directory of their own, with all that Watchover needs; for trying it out.
# Usage: pair.sh start DIR | run DIR main|standby | stop DIR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
verb=${1:-} dir=${2:-}
case $verb in start|run|stop) ;; *) dir= ;; esac
[ -n "$dir" ] || { echo "usage: $0 start DIR | run DIR main|standby | stop DIR" >&2; exit 2; }

address() { case $1 in main) echo 127.0.1.1 ;; standby) echo 127.0.1.2 ;; esac; }

# run starts a server that was set up before, and waits until it answers.
run() {
  redis-server "$dir/$1/redis.conf"
  for _ in $(seq 300); do
    case $(redis-cli -h "$(address "$1")" -p 16379 ping 2>&1) in PONG) return ;; esac
    sleep 0.1
  done
  echo "$1 does not start; see $dir/$1/log" >&2
  exit 1
}

start() {
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  head -c 18 /dev/urandom | base64 >"$dir/watchover.pass"
  chmod 600 "$dir/watchover.pass"
  digest=$(tr -d '\n' <"$dir/watchover.pass" | sha256sum | cut -d ' ' -f 1)
  for name in main standby; do
    mkdir "$dir/$name"
    cat >"$dir/$name/redis.conf" <<CONF
bind $(address $name)
port 16379
protected-mode no
daemonize yes
dir $dir/$name
pidfile $dir/$name/pid
logfile $dir/$name/log
appendonly yes
repl-ping-replica-period 1
repl-timeout 5
CONF
    sed "s/#PASSWORD/#$digest/" "$here/users.acl" >>"$dir/$name/redis.conf"
    [ $name = main ] || echo "replicaof 127.0.1.1 16379" >>"$dir/$name/redis.conf"
    chmod 600 "$dir/$name/redis.conf"
    run $name
  done
  for n in 1 2 3; do
    sed -e "s/name: w1/name: w$n/; s/data_dir: w1/data_dir: w$n/; s/socket: w1/socket: w$n/; s/:15301/:1530$n/" "$here/watchover.yaml" >"$dir/w$n.yaml"
  done
  echo "main is 127.0.1.1:16379, standby 127.0.1.2:16379, the watchers' files are $dir/w1.yaml, w2.yaml, w3.yaml"
}

stop() {
  local name pid pids=()
  for name in main standby; do
    if [ -s "$dir/$name/pid" ]; then pids+=("$(cat "$dir/$name/pid")"); fi
  done
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do
    for _ in $(seq 300); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
}

case $verb in
start) start ;;
run) dir=$(cd "$dir" && pwd); run "${3:-}" ;;
stop) stop ;;
esac
