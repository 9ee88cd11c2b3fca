-- What Watchover may do on a PostgreSQL 15 or later, and no more. Run it once as a superuser on the primary, in the database
-- that the dsn names (the grants on functions are per database); replication brings it to the standby. Then give the role a
-- password: \password watchover
CREATE ROLE watchover LOGIN;
GRANT pg_read_all_settings, pg_read_all_stats TO watchover; -- see primary_conninfo, the receiver, who is writing
GRANT pg_signal_backend TO watchover;                       -- end the sessions of a database that is frozen
GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO watchover; -- freeze
GRANT ALTER SYSTEM ON PARAMETER primary_conninfo TO watchover;              -- stop and resume replication
GRANT EXECUTE ON FUNCTION pg_reload_conf() TO watchover;
GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO watchover;
GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO watchover; -- what was set before, to put it back
