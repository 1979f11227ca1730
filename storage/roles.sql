-- The two roles of a census in PostgreSQL: the scanner writes, the dashboard only reads.
--
--     psql -v ON_ERROR_STOP=1 -d census -f roles.sql
--
-- Run it as the owner of the database (who may create roles), before or after the tables are there, as often as you
-- like. The roles have no password until you give them one (\password mxcensus_scanner), so that none is in a file.
--
-- The scanner makes the tables and migrates them, so it owns them; everything that it makes is readable by the
-- dashboard. Nobody else may connect.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mxcensus_scanner') THEN
        CREATE ROLE mxcensus_scanner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mxcensus_dashboard') THEN
        CREATE ROLE mxcensus_dashboard LOGIN;
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    -- Reports count in temporary tables.
    EXECUTE format(
        'GRANT CONNECT, TEMPORARY ON DATABASE %I TO mxcensus_scanner, mxcensus_dashboard', current_database());
END
$$;

ALTER ROLE mxcensus_scanner NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE mxcensus_dashboard NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO mxcensus_scanner;
GRANT USAGE ON SCHEMA public TO mxcensus_dashboard;

-- Tables that somebody else made before become the scanner's.
DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT c.oid::regclass AS name
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relowner <> 'mxcensus_scanner'::regrole
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') -- no extension's
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO mxcensus_scanner', made.name);
    END LOOP;
END
$$;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO mxcensus_dashboard;
ALTER DEFAULT PRIVILEGES FOR ROLE mxcensus_scanner IN SCHEMA public GRANT SELECT ON TABLES TO mxcensus_dashboard;
