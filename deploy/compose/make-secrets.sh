#!/bin/sh
# Make the secrets that compose.yaml mounts, in secrets/ beside it. Those that are there already stay as they are.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets

# secret NAME VALUE: keep a value, once. The users of the containers read the files; nobody else gets into the folder.
secret() {
    [ -e "secrets/$1" ] || printf '%s' "$2" > "secrets/$1"
    chmod 444 "secrets/$1"
}

secret secret_key "$(openssl rand -hex 32)"
secret admin_password "$(openssl rand -hex 16)"
secret postgres_password "$(openssl rand -hex 24)"
secret valkey_password "$(openssl rand -hex 24)"
secret database_url "postgresql://ollagraph:$(cat secrets/postgres_password)@postgres/ollagraph"
secret redis_url "redis://:$(cat secrets/valkey_password)@valkey:6379/0"
echo "The first administrator is admin; the password is in $(pwd)/secrets/admin_password."
