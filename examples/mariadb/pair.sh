#!/usr/bin/env bash
# A MariaDB and its replica on loopback, in a directory of their own, with all that Watchover needs; for trying it out.
# Usage: pair.sh start DIR | run DIR main|standby | stop DIR
set -eu
PATH=$PATH:/usr/sbin
here=$(cd "$(dirname "$0")" && pwd)
verb=${1:-} dir=${2:-}
case $verb in start|run|stop) ;; *) dir= ;; esac
[ -n "$dir" ] || { echo "usage: $0 start DIR | run DIR main|standby | stop DIR" >&2; exit 2; }

address() { case $1 in main) echo 127.0.1.1 ;; standby) echo 127.0.1.2 ;; esac; }

# run starts a server that was set up before, and waits until it answers. read_only=1 is on purpose: a server that was
# restarted stays closed until Watchover or a person opens it. Each has a tmpdir of its own: a server that starts deletes the
# temporary tables that it finds there, also another server's.
run() {
  local name=$1 id=1
  [ "$name" = main ] || id=2
  mariadbd --no-defaults --user="$(id -un)" --datadir="$dir/$name/data" --tmpdir="$dir/$name" --socket="$dir/$name/sock" --pid-file="$dir/$name/pid" \
    --bind-address="$(address "$name")" --port=13306 --server-id=$id --report-host="$(address "$name")" \
    --log-bin=bin --log-slave-updates --relay-log=relay --gtid-strict-mode=1 --read-only=1 --slave-net-timeout=4 \
    --innodb-buffer-pool-size=16M --innodb-log-file-size=4M --performance-schema=0 >>"$dir/$name/log" 2>&1 &
  disown
  for _ in $(seq 300); do
    if sql "$name" "SELECT 1" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "$name does not start; see $dir/$name/log" >&2
  exit 1
}

sql() { mariadb --no-defaults --socket="$dir/$1/sock" --user=root -e "$2"; }

start() {
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  for name in main standby; do
    mkdir "$dir/$name"
    mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$dir/$name/data" --tmpdir="$dir/$name" --auth-root-authentication-method=normal \
      --skip-test-db --innodb-log-file-size=4M >"$dir/$name/log" 2>&1
    run "$name"
  done
  head -c 18 /dev/urandom | base64 >"$dir/watchover.pass"
  chmod 600 "$dir/watchover.pass"
  sql main "SET GLOBAL read_only = 0"
  mariadb --no-defaults --socket="$dir/main/sock" --user=root <"$here/watchover.sql"
  sql main "ALTER USER watchover IDENTIFIED BY '$(cat "$dir/watchover.pass")';
    CREATE USER repl IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl;
    CREATE DATABASE shop; CREATE TABLE shop.orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, at TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3));
    CREATE USER app IDENTIFIED BY 'app'; GRANT ALL ON shop.* TO app"
  sql standby "CHANGE MASTER TO MASTER_HOST='127.0.1.1', MASTER_PORT=13306, MASTER_USER='repl', MASTER_PASSWORD='repl',
    MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1; START SLAVE"
  for n in 1 2 3; do
    sed -e "s/name: w1/name: w$n/; s/data_dir: w1/data_dir: w$n/; s/socket: w1/socket: w$n/; s/:15301/:1530$n/" "$here/watchover.yaml" >"$dir/w$n.yaml"
  done
  echo "main is 127.0.1.1:13306, standby 127.0.1.2:13306, the watchers' files are $dir/w1.yaml, w2.yaml, w3.yaml"
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
