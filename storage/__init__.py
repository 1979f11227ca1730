"""Records in and out of SQLite or PostgreSQL.

1. `database` opens a URL, brings the tables up to date (`migrate`, `migrations/`) and runs transactions: writes in
   one thread, and again when the database was away. `dialects` alone knows one database from another.
2. `schema` has the tables. What servers wrote goes in through `text.escape`.
3. `writer` takes the records of a scan; `rows` turns them into rows, `store` puts a batch of rows into the tables.
4. `ledger` hands out what is still to do, from the same tables.
5. `reader` streams a scan back; `classifications` stores what the classification pass made of it.
6. `counts` (with `profiles`) counts a scan for the reports; `standing` says where it stands.
7. `purge` deletes what an opted-out name or network left.

`roles.sql` makes the two roles of a PostgreSQL database: the scanner writes, the dashboard reads.
"""
