#!/bin/sh
# Makes the secrets of the compose stack in ./secrets, once: what is there already stays.
set -eu

mkdir -p -m 700 secrets
for name in database_password grafana_database_password grafana_admin_password token; do
    [ -e "secrets/$name" ] || openssl rand -hex 24 >"secrets/$name"
done

# The receiver keeps digests only. Users of its web page go into the same file.
if [ ! -e secrets/credentials.yml ]; then
    digest=$(tr -d '\n' <secrets/token | openssl dgst -sha256 -r | cut -d ' ' -f 1)
    printf 'bearer_tokens:\n  - %s\n' "$digest" >secrets/credentials.yml
fi

# The containers' users must be able to read the files; the directory keeps others out.
chmod 444 secrets/database_password secrets/grafana_database_password \
    secrets/grafana_admin_password secrets/token
chmod 644 secrets/credentials.yml
