#!/bin/sh
# Runs once, when PostgreSQL makes its cluster: the roles of storage/roles.sql, with passwords from files.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -f "${ROLES:-/roles.sql}"
for role in scanner dashboard; do
    psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
        -v role="mxcensus_$role" -v password="$(cat "${SECRETS:-/run/secrets}/$role")" <<'SQL'
ALTER ROLE :"role" PASSWORD :'password';
SQL
done
