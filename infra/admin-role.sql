-- The delegated administrator that the function logs in as: it may create roles and databases, and nothing more.
--
-- Run it once, as the master of the RDS instance, connected to the database that the function will use (DB_NAME,
-- normally "postgres"). It is plain SQL and may be run again; it sets no password. Works on PostgreSQL 13 to 18.
--
--   psql "host=<endpoint> dbname=postgres user=<master> sslmode=verify-full sslrootcert=rds-ca-bundle.pem" \
--        --set ON_ERROR_STOP=1 --file infra/admin-role.sql
--
-- Then give it a password that no log ever sees: psql's \password sends a verifier, while a plain
-- ALTER ROLE rds_provisioner PASSWORD '...' would stand as clear text in the server's log.
--
--   \password rds_provisioner
--
-- and store the same password in the administrator's secret (username "rds_provisioner").
-- Where the parameter rds.restrict_password_commands is on, the master adds: GRANT rds_password TO rds_provisioner;

DO $create$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_provisioner') THEN
        CREATE ROLE rds_provisioner;
    END IF;
END
$create$;

-- Only what is wanted is named: a master that is not a superuser is refused when it names the other attributes,
-- even to say that they are off.
ALTER ROLE rds_provisioner WITH LOGIN CREATEROLE CREATEDB;

-- Everyone may connect to a new database, so this grants only where CONNECT was taken from PUBLIC. A GRANT by a role
-- that may not grant is only a warning to the server; here it is an error.
DO $connect$
BEGIN
    IF NOT has_database_privilege('rds_provisioner', current_database(), 'CONNECT') THEN
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO rds_provisioner', current_database());
        IF NOT has_database_privilege('rds_provisioner', current_database(), 'CONNECT') THEN
            RAISE EXCEPTION 'role "rds_provisioner" may not connect to database "%": its owner must GRANT CONNECT',
                current_database();
        END IF;
    END IF;
END
$connect$;
