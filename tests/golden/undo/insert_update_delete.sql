-- Rowback undo of `shop`.`orders`
-- Takes back 4 changes (2 inserts, 1 update, 1 delete) of 3 transactions, newest first:
--   transaction seq 3, GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:3, committed 2026-05-02 10:00:03 UTC, connection 7: 1 change
--   transaction seq 2, GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:2, committed 2026-05-02 10:00:02 UTC, connection 7: 1 change
--   transaction seq 1, GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:1, committed 2026-05-02 10:00:01 UTC, connection 7: 2 changes
-- It commits only if every statement changes exactly one row; otherwise it rolls back and says so.
-- Apply it in a session without an open transaction. Triggers of the table fire for its statements too.
-- Known up to 2026-05-02 10:00:03 UTC; what the source did after that is not in this script.
-- WARNING: No snapshot holds this table, so generated columns are not known; if it has some, the script fails and rolls back.

SET @rowback_sql_mode = @@SESSION.sql_mode, @rowback_time_zone = @@SESSION.time_zone, @rowback_foreign_key_checks = @@SESSION.foreign_key_checks, @rowback_unique_checks = @@SESSION.unique_checks, @rowback_sql_safe_updates = @@SESSION.sql_safe_updates, @rowback_character_set_client = @@SESSION.character_set_client, @rowback_character_set_results = @@SESSION.character_set_results, @rowback_collation_connection = @@SESSION.collation_connection;
SET NAMES utf8mb4;
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION', SESSION time_zone = '+00:00', SESSION foreign_key_checks = 1, SESSION unique_checks = 1, SESSION sql_safe_updates = 0;
START TRANSACTION;
SET @rowback_failed = 0, @rowback_done = 0, @rowback_ended = NULL;

-- transaction seq 3, GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:3, committed 2026-05-02 10:00:03 UTC
INSERT INTO `shop`.`orders` (`id`, `status`, `note`, `total`, `due`, `raw`, `weight`) SELECT 2, 'new', NULL, 1.50, '0000-00-00', x'00', NULL FROM DUAL WHERE @rowback_failed = 0;
SET @rowback_failed = @rowback_failed + (ROW_COUNT() <> 1), @rowback_done = @rowback_done + 1;

-- transaction seq 2, GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:2, committed 2026-05-02 10:00:02 UTC
UPDATE `shop`.`orders` SET `status` = 'new', `note` = _utf8mb4 x'69742773', `weight` = NULL WHERE `id` <=> 1 AND CAST(`status` AS BINARY) <=> 'paid' AND `note` IS NULL AND `weight` <=> 1.100000023841858e0 AND @rowback_failed = 0;
SET @rowback_failed = @rowback_failed + (ROW_COUNT() <> 1), @rowback_done = @rowback_done + 1;

-- transaction seq 1, GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:1, committed 2026-05-02 10:00:01 UTC
DELETE FROM `shop`.`orders` WHERE `id` <=> 2 AND CAST(`status` AS BINARY) <=> 'new' AND `note` IS NULL AND `total` <=> 1.50 AND `due` IS NULL AND `raw` IS NULL AND `weight` IS NULL AND @rowback_failed = 0;
SET @rowback_failed = @rowback_failed + (ROW_COUNT() <> 1), @rowback_done = @rowback_done + 1;
DELETE FROM `shop`.`orders` WHERE `id` <=> 1 AND CAST(`status` AS BINARY) <=> 'new' AND CAST(`note` AS BINARY) <=> x'69742773' AND `total` <=> 1.50 AND `due` IS NULL AND `raw` IS NULL AND `weight` IS NULL AND @rowback_failed = 0;
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
