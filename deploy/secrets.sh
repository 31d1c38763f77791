#!/bin/sh
# Makes the secrets of the compose stack in ./secrets; what is there already stays. Run it again after an
# update of the repository: it also makes what a newer version needs.
set -eu
umask 077

# put FILE TEXT: as a whole, or not at all.
put() {
    printf '%s\n' "${2:?cannot be made, so $1 is not written}" >"$1.new"
    mv "$1.new" "$1"
}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi
}

mkdir -p secrets/credentials secrets/alertmanager
for name in database_password grafana_database_password grafana_admin_password token; do
    [ -s "secrets/$name" ] && continue
    put "secrets/$name" "$(od -An -v -N24 -tx1 /dev/urandom | tr -d ' \n')"
done

# The receiver keeps digests only. Users of its web page are in the same file.
credentials=secrets/credentials/credentials.yml
if [ ! -e $credentials ] && [ -s secrets/credentials.yml ]; then
    mv secrets/credentials.yml $credentials  # where earlier versions had it
fi
if [ ! -s $credentials ]; then
    digest=$(tr -d '\n' <secrets/token | sha256 | cut -d ' ' -f 1)
    put $credentials "${digest:+bearer_tokens:
  - $digest}"
fi

# The containers' users must be able to read all of it, and what they mount of the repository, whatever
# the umask was; the directory keeps others out.
chmod 700 secrets
chmod a+rx secrets/*/
chmod a+r secrets/*/* secrets/database_password secrets/grafana_database_password \
    secrets/grafana_admin_password secrets/token
[ ! -d deploy ] || chmod -R a+rX deploy
