#!/usr/bin/env bash
# A PostgreSQL primary and its replica, two small apps and the files of three watchers, all on loopback below one directory.
#
#   setup.sh up            make and start everything but the watchers
#   setup.sh crash NAME    kill an app and its database at once: main or standby
#   setup.sh rejoin NAME   make a database that was left behind a replica of the other one (pg_rewind); it names transactions
#                          that would vanish and stops, unless "discard" is said too
#   setup.sh app NAME      start an app that was killed
#   setup.sh down          stop everything and remove the directory
#
# Nothing of the system's own PostgreSQL is touched. As root the servers run as the user postgres, which they insist on.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=$here/../../bin
dir=${DIR:-/tmp/watchover-postgres}
for pg in /usr/lib/postgresql/*/bin; do :; done
[ -x "$pg/postgres" ] || { echo "PostgreSQL is not installed: apt-get install postgresql" >&2; exit 1; }

port() { case $1 in main) echo 5441 ;; standby) echo 5442 ;; *) echo "there is no $1; say main or standby" >&2; exit 2 ;; esac; }
web() { case $1 in main) echo 9011 ;; standby) echo 9012 ;; esac; }
other() { case $1 in main) echo standby ;; standby) echo main ;; esac; }
as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
sql() { as "$pg/psql" -q -h "$dir" -p "$(port main)" -U postgres -v ON_ERROR_STOP=1 "$@"; }
conninfo() { echo "host=127.0.0.1 port=$(port "$1") user=replica password=replica"; }

# manage is what a service manager does elsewhere: it keeps a database running unless $dir/NAME.stopped is there.
manage() {
  while [ -d "$dir/$1" ]; do
    [ -e "$dir/$1.stopped" ] ||
      as "$pg/postgres" -D "$dir/$1" -p "$(port "$1")" -c listen_addresses=127.0.0.1 -c "unix_socket_directories=$dir" >>"$dir/$1.log" 2>&1 || true
    sleep 0.2
  done
}
start_database() {
  rm -f "$dir/$1.stopped"
  until as "$pg/pg_isready" -q -h "$dir" -p "$(port "$1")"; do sleep 0.1; done
}
stop_database() {
  touch "$dir/$1.stopped"
  as "$pg/pg_ctl" -s -w -D "$dir/$1" -m fast stop
}
start_app() { # open or in maintenance, as when it was last stopped
  "$bin/sampleapp" serve --name "$1" --listen "127.0.0.1:$(web "$1")" --data "$dir/$1.app" >>"$dir/$1.app.log" 2>&1 &
  echo $! >"$dir/$1.app.pid"
  until curl -sf "http://127.0.0.1:$(web "$1")/healthz" >/dev/null; do sleep 0.1; done
}
kill_app() { kill -9 "$(cat "$dir/$1.app.pid")" 2>/dev/null || true; }

up() {
  mkdir "$dir"
  [ "$(id -u)" != 0 ] || chown postgres "$dir"
  as "$pg/initdb" -D "$dir/main" -U postgres -A trust >/dev/null
  cat <<CONF | as tee -a "$dir/main/postgresql.conf" >/dev/null
wal_log_hints = on          # for pg_rewind
wal_keep_size = 128MB
wal_receiver_timeout = 10s  # a primary that hangs is noticed after 6 s instead of 31 s
CONF
  printf 'local all,replication all trust\nhost all,replication all 127.0.0.1/32 scram-sha-256\n' | as tee "$dir/main/pg_hba.conf" >/dev/null
  manage main &
  start_database main
  sql -f "$here/watchover.sql"
  sql -c "ALTER ROLE watchover PASSWORD 'watchover'" -c "CREATE ROLE replica REPLICATION LOGIN PASSWORD 'replica'" \
    -c "CREATE ROLE shop LOGIN PASSWORD 'shop'" -c "CREATE TABLE orders (id serial PRIMARY KEY, what text)" -c "GRANT ALL ON orders, orders_id_seq TO shop"
  as "$pg/pg_basebackup" -d "$(conninfo main)" -D "$dir/standby" -R -c fast
  manage standby &
  start_database standby
  start_app main
  start_app standby
  curl -sf -X PUT "http://127.0.0.1:$(web standby)/admin/maintenance" >/dev/null
  (umask 077; echo watchover >"$dir/pg.pass")
  for n in 1 2 3; do sed "s/@N@/$n/g; s,@DIR@,$dir,g; s,@EXAMPLE@,$here,g" "$here/watchover.yaml" >"$dir/w$n.yaml"; done
  echo "ready: $dir"
}

crash() {
  kill_app "$1"
  touch "$dir/$1.stopped"
  kill -9 $(head -1 "$dir/$1/postmaster.pid")
}

# lost names the transactions of a stopped database that the other one has not: those that begin in its log after the place
# where the other one's timeline left it.
lost() {
  source=$(as "$pg/psql" -X -A -t -h "$dir" -p "$(port "$(other "$1")")" -U postgres -d postgres -c \
    "SELECT pg_read_file('pg_wal/' || lpad(to_hex(('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int), 8, '0') || '.history')")
  fork=$(echo "$source" | awk 'NF {at = $2} END {print at}')
  end=$(as "$pg/pg_controldata" "$dir/$1" | sed -n 's/^Latest checkpoint location: *//p')
  as "$pg/pg_waldump" -p "$dir/$1/pg_wal" -t "$(as "$pg/pg_controldata" "$dir/$1" | sed -n "s/^Latest checkpoint's TimeLineID: *//p")" \
    -r Transaction -s "$fork" -e "$end" 2>/dev/null | grep COMMIT || true
}

# rejoin is the program of database.reprotect. It works on the database's own machine; elsewhere that takes ssh. With --force it
# is told WATCHOVER_KIND=forced.
rejoin() {
  [ -e "$dir/$1/postmaster.pid" ] && ! [ -e "$dir/$1.stopped" ] || start_database "$1" # recovery after a crash comes first
  stop_database "$1"
  vanish=$(lost "$1")
  if [ -n "$vanish" ] && [ "${2:-}" != discard ] && [ "${WATCHOVER_KIND:-}" != forced ]; then
    start_database "$1"
    echo "$(echo "$vanish" | wc -l) transactions of $1 are not on $(other "$1") and would vanish; the last:"
    echo "$vanish" | tail -1
    echo "what is in them can be read with pg_waldump; watchover reprotect --force goes on without them"
    exit 1
  fi
  as "$pg/pg_rewind" -D "$dir/$1" --source-server "host=$dir port=$(port "$(other "$1")") user=postgres dbname=postgres"
  echo "primary_conninfo = '$(conninfo "$(other "$1")")'" | as tee -a "$dir/$1/postgresql.auto.conf" >/dev/null
  as touch "$dir/$1/standby.signal"
  start_database "$1"
}

down() {
  for name in main standby; do
    kill_app $name
    touch "$dir/$name.stopped"
    as "$pg/pg_ctl" -s -D "$dir/$name" -m immediate stop 2>/dev/null || true
  done
  rm -rf "$dir"
}

case ${1:-} in
up | down) $1 ;;
crash | rejoin) port "${2:-}" >/dev/null && "$@" ;;
app) port "${2:-}" >/dev/null && start_app "$2" ;;
*) sed -n 's/^#   //p' "$0"; exit 2 ;;
esac
