-- The account that Rowback captures and dumps with: what it needs, and why. It can read every table and write to none.
--
--     mysql --user=root --password < deploy/grants.sql
--
-- works on MySQL 8.0.23 and later and on MariaDB 10.5 and later: each server runs the comments meant for it
-- (/*!80023 ... */ is MySQL, /*M!100502 ... */ is MariaDB). Change the host and the password first. tests/test_grants.py
-- runs this file against both and does with the account what Rowback does. `rowback doctor` says what an account lacks.

CREATE USER IF NOT EXISTS 'rowback'@'%' IDENTIFIED BY 'change-me';

-- REPLICATION SLAVE   capture: read the binlog stream, as a replica does
-- REPLICATION CLIENT  capture, doctor: SHOW BINARY LOG STATUS, SHOW BINARY LOGS (on MariaDB called BINLOG MONITOR)
-- SELECT              snapshot: read the tables; the column names and keys of their schema; performance_schema, which tells
--                     when all of mydumper's threads have opened their transactions. For some databases only, grant SELECT,
--                     SHOW VIEW, TRIGGER and EVENT on each of them, and SELECT on performance_schema.*
-- SHOW VIEW, TRIGGER, EVENT
--                     snapshot: the definitions. What one of them would show is missing from the dump directory without it, and
--                     the snapshot says so. TRIGGER and EVENT also allow creating them: no smaller privilege shows their text
-- PROCESS             snapshot: see other accounts' long statements before the brief lock; foreign keys in information_schema
--
-- Not needed: SUPER, LOCK TABLES, BACKUP_ADMIN, REPLICATION SLAVE ADMIN, and any INSERT, UPDATE, DELETE, CREATE or ALTER.

/*!80023 GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT, SHOW VIEW, TRIGGER, EVENT, PROCESS ON *.* TO 'rowback'@'%' */;
/*M!100502 GRANT REPLICATION SLAVE, BINLOG MONITOR, SELECT, SHOW VIEW, TRIGGER, EVENT, PROCESS ON *.* TO 'rowback'@'%' */;

-- For the brief lock (FLUSH TABLES WITH READ LOCK, about 40 ms): leave it out, and snapshots are taken without a lock.
-- MySQL has FLUSH_TABLES for it, which is much less than RELOAD: RELOAD may also delete the binlog (RESET BINARY LOGS AND
-- GTIDS, RESET MASTER). MySQL before 8.0.23, and MariaDB, have only RELOAD.
/*!80023 GRANT FLUSH_TABLES ON *.* TO 'rowback'@'%' */;
/*M!100502 GRANT RELOAD ON *.* TO 'rowback'@'%' */;
