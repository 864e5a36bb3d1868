-- Rowback undo of `shop`.`log`
-- Takes back 4 changes (2 inserts, 1 update, 1 delete) of 1 transaction, newest first:
--   transaction seq 1, GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:1, committed 2026-05-02 10:00:01 UTC, connection 7: 4 changes
-- It commits only if every statement changes exactly one row; otherwise it rolls back and says so.
-- Apply it in a session without an open transaction. Triggers of the table fire for its statements too.
-- Known up to 2026-05-02 10:00:01 UTC; what the source did after that is not in this script.
-- WARNING: No snapshot holds this table, so generated columns are not known; if it has some, the script fails and rolls back.

SET @rowback_sql_mode = @@SESSION.sql_mode, @rowback_time_zone = @@SESSION.time_zone, @rowback_foreign_key_checks = @@SESSION.foreign_key_checks, @rowback_unique_checks = @@SESSION.unique_checks, @rowback_sql_safe_updates = @@SESSION.sql_safe_updates, @rowback_character_set_client = @@SESSION.character_set_client, @rowback_character_set_results = @@SESSION.character_set_results, @rowback_collation_connection = @@SESSION.collation_connection;
SET NAMES utf8mb4;
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION', SESSION time_zone = '+00:00', SESSION foreign_key_checks = 1, SESSION unique_checks = 1, SESSION sql_safe_updates = 0;
START TRANSACTION;
SET @rowback_failed = 0, @rowback_done = 0, @rowback_ended = NULL;

-- transaction seq 1, GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:1, committed 2026-05-02 10:00:01 UTC
INSERT INTO `shop`.`log` (`n`, `t`) SELECT 1, NULL FROM DUAL WHERE @rowback_failed = 0;
SET @rowback_failed = @rowback_failed + (ROW_COUNT() <> 1), @rowback_done = @rowback_done + 1;
UPDATE `shop`.`log` SET `n` = 1, `t` = NULL WHERE `n` <=> 2 AND CAST(`t` AS BINARY) <=> 'x' AND @rowback_failed = 0 LIMIT 1;
SET @rowback_failed = @rowback_failed + (ROW_COUNT() <> 1), @rowback_done = @rowback_done + 1;
DELETE FROM `shop`.`log` WHERE `n` <=> 1 AND `t` IS NULL AND @rowback_failed = 0 LIMIT 1;
SET @rowback_failed = @rowback_failed + (ROW_COUNT() <> 1), @rowback_done = @rowback_done + 1;
DELETE FROM `shop`.`log` WHERE `n` <=> 1 AND `t` IS NULL AND @rowback_failed = 0 LIMIT 1;
SET @rowback_failed = @rowback_failed + (ROW_COUNT() <> 1), @rowback_done = @rowback_done + 1;

SET @rowback_good = (@rowback_failed <=> 0 AND @rowback_done <=> 4);
SET @rowback_sql = IF(@rowback_good, 'COMMIT', 'ROLLBACK');
PREPARE rowback_end FROM @rowback_sql;
EXECUTE rowback_end;
SET @rowback_ended = ROW_COUNT() + 0 * @rowback_done;
DEALLOCATE PREPARE rowback_end;
SET SESSION sql_mode = @rowback_sql_mode, SESSION time_zone = @rowback_time_zone, SESSION foreign_key_checks = @rowback_foreign_key_checks, SESSION unique_checks = @rowback_unique_checks, SESSION sql_safe_updates = @rowback_sql_safe_updates, SESSION character_set_client = @rowback_character_set_client, SESSION character_set_results = @rowback_character_set_results, SESSION collation_connection = @rowback_collation_connection;
SELECT CASE WHEN @rowback_good AND @rowback_ended = 0 THEN 'rowback: committed, 4 changes undone' WHEN @rowback_ended = 0 THEN 'rowback: rolled back, nothing was changed' ELSE 'rowback: the outcome is not known, look at the rows' END AS outcome;
SET @rowback_sql = IF(@rowback_good AND @rowback_ended = 0, 'DO 0', 'SELECT 1 FROM `shop`.`rowback: not committed`');
PREPARE rowback_end FROM @rowback_sql;
DEALLOCATE PREPARE rowback_end;
