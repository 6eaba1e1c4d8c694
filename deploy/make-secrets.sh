#!/usr/bin/env bash
# Makes the keys and passwords of deploy/compose.yaml, once: what is there already stays as it is.
# Run it as root, so that each file belongs to the user of the container that reads it.
set -euo pipefail
umask 077
folder=${1:-"$(dirname "$0")/secrets"}
mkdir -p "$folder"
cd "$folder"

random() { od -An -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

# keep NAME OWNER TEXT: writes it unless it is there, for that user alone.
keep() {
    [ -e "$1" ] || printf '%s\n' "$3" >"$1"
    chmod 400 "$1"
    [ "$(id -u)" != 0 ] || chown "$2" "$1"
}

adit=10001:10001 postgres=999:999 rabbitmq=999:999 redis=999:1000 proxy=101:101
keep master.key $adit "$(random 32)"
keep web.key $adit "$(random 32)"
keep metrics_token $adit "$(random 24)"

keep postgres_password $postgres "$(random 24)"
keep database_url $adit "postgresql://adit:$(cat postgres_password)@postgres:5432/adit"

if [ ! -e broker_url ] || [ ! -e rabbitmq.conf ]; then
    rm -f broker_url rabbitmq.conf
    password=$(random 24)
    keep broker_url $adit "amqp://adit:$password@rabbitmq:5672/adit"
    keep rabbitmq.conf $rabbitmq "default_user = adit
default_pass = $password
default_vhost = adit
disk_free_limit.absolute = 1GB
vm_memory_high_watermark.relative = 0.6"
fi

if [ ! -e redis_url ] || [ ! -e redis.conf ]; then
    rm -f redis_url redis.conf
    password=$(random 24)
    keep redis_url $adit "redis://:$password@redis:6379/0"
    keep redis.conf $redis "requirepass $password
maxmemory 256mb
maxmemory-policy allkeys-lru
save \"\"
appendonly no
protected-mode yes"
fi

for name in tls.crt tls.key; do
    if [ -e $name ]; then
        chmod 400 $name
        [ "$(id -u)" != 0 ] || chown $proxy $name
    else
        echo "Put your certificate there: $folder/$name" >&2
    fi
done
echo "Back up $folder/master.key apart from the database: without it nobody reads pseudonyms again." >&2
