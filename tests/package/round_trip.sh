#!/bin/sh
# round_trip.sh BIN DIR STEP: two nodes below DIR, with the programs in BIN. Steps:
#   create     two clusters, two nodes, a subscription each way
#   write N    both nodes insert row N, both have it, both are equal
# Each step starts the servers and stops them. No statement takes longer than three minutes, no server longer than
# one to start; the first failure ends it.
set -eu
bin=$1 dir=$2 step=$3
PGOPTIONS='-c statement_timeout=180s' PGHOST=$dir PGUSER=postgres PGDATABASE=app LANG=C.UTF-8
export PGOPTIONS PGHOST PGUSER PGDATABASE LANG

on() {
    port=$1
    shift
    "$bin/psql" --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --port="$port" "$@"
}

start() {
    for n in 1 2; do
        "$bin/pg_ctl" start --silent --wait --timeout=60 -D "$dir/n$n" -l "$dir/n$n.log" || { cat "$dir/n$n.log"; exit 1; }
    done
}

stop() {
    for n in 1 2; do "$bin/pg_ctl" stop --silent --mode=fast -D "$dir/n$n"; done
}

failed() {
    for n in 1 2; do tail -n 20 "$dir/n$n.log" || :; done
    exit 1
}

settings_taken="select count(*) filter (where name = 'wal_level'), count(error),
    count(*) filter (where name = 'output_plugin_libraries')
        = (select count(*) from pg_settings where name = 'output_plugin_libraries')
    from pg_file_settings where sourcefile like '%/spock.conf'"

create() {
    for n in 1 2; do
        "$bin/initdb" -D "$dir/n$n" -U postgres --auth=trust > "$dir/initdb.log"
        "$bin/spock-configure" "$dir/n$n"
        # What is configured stays as it is.
        case $("$bin/spock-configure" "$dir/n$n") in *"spock.conf is there"*) ;; *) exit 1 ;; esac
        printf "port = 543%s\nunix_socket_directories = '%s'\nlisten_addresses = ''\nfsync = off\n" $n "$dir" >> "$dir/n$n/postgresql.conf"
    done
    start
    for n in 1 2; do
        on 543$n --dbname=postgres -c 'create database app template template0'
        # Each setting once, none refused, and the list of output plugins just where the server has one.
        settings=$(on 543$n --dbname=postgres -c "$settings_taken")
        [ "$settings" = "1|0|t" ] || { printf 'settings of n%s: %s\n' $n "$settings"; exit 1; }
        on 543$n -c 'create extension spock' -c "select spock.node_create('n$n', 'host=$dir port=543$n dbname=app user=postgres')"
    done
    on 5431 -c 'create table acct (id int primary key, who text)' -c "insert into acct values (0, 'before')"
    on 5431 -c "select spock.repset_add_all_tables('default', '{public}')"
    on 5432 -c "select spock.sub_create('n1_to_n2', 'host=$dir port=5431 dbname=app user=postgres', synchronize_structure := true, synchronize_data := true)"
    on 5432 -c "select spock.sub_wait_for_sync('n1_to_n2')" -c "select spock.repset_add_all_tables('default', '{public}')"
    on 5431 -c "select spock.sub_create('n2_to_n1', 'host=$dir port=5432 dbname=app user=postgres')"
    on 5431 -c "select spock.sub_wait_for_sync('n2_to_n1')"
    on 5431 -c 'select * from spock.server_capabilities()'
    stop
}

# Ends when every slot of the node is confirmed up to what was written before.
settle() {
    on "$1" -c 'select spock.wait_slot_confirm_lsn(null, pg_current_wal_lsn())'
}

write() {
    start
    on 5431 -c "insert into acct values ($1 * 10 + 1, 'n1')"
    on 5432 -c "insert into acct values ($1 * 10 + 2, 'n2')"
    settle 5431
    settle 5432
    one=$(on 5431 -c 'select count(*), sum(id), min(who) from acct')
    two=$(on 5432 -c 'select count(*), sum(id), min(who) from acct')
    stop
    printf 'n1: %s\nn2: %s\n' "$one" "$two"
    [ "$one" = "$two" ] || exit 1
    case $one in "$((1 + 2 * $1))|"*) ;; *) exit 1 ;; esac
}

case $step in
create) create || failed ;;
write) write "$4" || failed ;;
*) exit 2 ;;
esac
