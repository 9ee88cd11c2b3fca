-- The least privileges with which Watchover can do its part, for MariaDB 10.6 and later. Run it as root on the primary; the
-- replica gets it by replication. Then: ALTER USER watchover IDENTIFIED BY '...';
CREATE USER IF NOT EXISTS watchover@'%';
GRANT READ_ONLY ADMIN,        -- freeze and unfreeze: SET GLOBAL read_only
      CONNECTION ADMIN,       -- freeze: end the other sessions; log in when all connections are taken
      PROCESS,                -- freeze: see them
      BINLOG MONITOR,         -- look: how much a primary has written
      SLAVE MONITOR,          -- look: how a replica stands
      REPLICATION SLAVE ADMIN,-- stop, resume, promote
      RELOAD                  -- promote: forget the old source (RESET SLAVE ALL)
   ON *.* TO watchover@'%';
-- Only for `watchover reprotect`: the old primary then logs in to the new one as this user.
GRANT REPLICATION SLAVE ON *.* TO watchover@'%';
