-- Statistics of channels: what counts, when, and who sees it.
CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE regress_herald_owner;
CREATE ROLE regress_herald_guest;
CREATE ROLE regress_herald_monitor IN ROLE pg_monitor;
SELECT current_database() AS database \gset
GRANT CREATE ON DATABASE :"database" TO regress_herald_owner;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN concat(SQLSTATE, ': ', SQLERRM);
END $$;
CREATE VIEW mine AS
SELECT channel, published, published_bytes, announced, rejected, last_published_at IS NOT NULL AS was_published,
       stats_reset IS NOT NULL AS was_reset
  FROM herald.channel_stats WHERE channel LIKE 'regress stats%' ORDER BY channel COLLATE "C";
GRANT SELECT ON mine TO PUBLIC;
-- Announcements count when the announcer has sent them.
CREATE PROCEDURE await_announced(wanted_channel text, wanted bigint) LANGUAGE plpgsql AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '20 s';
BEGIN
    WHILE (SELECT coalesce(sum(announced), 0) FROM herald.channel_stats WHERE channel = wanted_channel) < wanted LOOP
        IF clock_timestamp() > until THEN RAISE 'not announced in time'; END IF;
    END LOOP;
END $$;

SET ROLE regress_herald_owner;
SELECT herald.create_channel('regress stats', announce => 'off');
RESET ROLE;
-- What counted nothing is not shown.
SELECT * FROM mine;

-- Committed messages count, with their size as jsonb.
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
SELECT count(*) FROM herald.publish_batch('regress stats', '{1,2,3}');
SELECT herald.publish('regress stats heard', '{}');
SELECT herald.notify('regress stats heard', 'five!');
CALL await_announced('regress stats heard', 2);
SELECT * FROM mine;

-- Nothing counts twice, nothing of what was rolled back.
BEGIN;
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
SAVEPOINT a;
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
SAVEPOINT b;
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
SELECT herald.publish('regress stats heard', '{}');
ROLLBACK TO b;
SELECT published FROM mine;
RELEASE a;
SAVEPOINT c;
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
ROLLBACK TO c;
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
COMMIT;
BEGIN;
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
ROLLBACK;
DO $$
BEGIN
    FOR i IN 1..100 LOOP
        BEGIN
            PERFORM herald.publish('regress stats', '{}');
            PERFORM herald.publish('regress stats heard', to_jsonb(i));
            IF i % 2 = 0 THEN RAISE 'rolled back'; END IF;
        EXCEPTION WHEN raise_exception THEN
        END;
    END LOOP;
END $$;
CALL await_announced('regress stats heard', 52);
SELECT channel, published, announced FROM mine;

-- Rejected publications count at once.
SELECT try($$SELECT herald.publish('regress stats', 'no json')$$);
SET herald.max_payload = 2000;
SELECT try($$SELECT herald.publish('regress stats heard', to_jsonb(repeat('x', 9000)))$$);
RESET herald.max_payload;
SET ROLE regress_herald_guest;
SELECT try($$SELECT herald.publish('regress stats', '1')$$);
RESET ROLE;
SELECT channel, published, rejected FROM mine;

-- Who sees what: others see channels that they may use, and undeclared ones.
SET ROLE regress_herald_guest;
SELECT channel FROM mine;
SET ROLE regress_herald_owner;
SELECT channel FROM mine;
SET ROLE regress_herald_monitor;
SELECT channel FROM mine;
RESET ROLE;

-- Sessions that LISTEN, once their LISTEN is committed.
BEGIN;
LISTEN "regress stats heard";
SELECT channel, listeners FROM herald.channel_stats WHERE channel LIKE 'regress stats%' ORDER BY channel COLLATE "C";
COMMIT;
SELECT channel, listeners FROM herald.channel_stats WHERE channel LIKE 'regress stats%' ORDER BY channel COLLATE "C";
SELECT pid = pg_backend_pid() AS own, database = current_database() AS here, role = session_user AS as_role,
       application_name LIKE 'pg_regress%' AS named, channel FROM herald.listeners WHERE channel LIKE 'regress%';
SET ROLE regress_herald_guest;
SELECT count(*) FROM herald.listeners WHERE channel LIKE 'regress%';
SET ROLE regress_herald_monitor;
SELECT count(*) FROM herald.listeners WHERE channel LIKE 'regress%';
RESET ROLE;
UNLISTEN *;
SELECT count(*) FROM herald.listeners WHERE channel LIKE 'regress%';

-- Reset: by the owner for a channel, by monitors for all.
SET ROLE regress_herald_guest;
SELECT try($$SELECT herald.reset_stats()$$);
SELECT try($$SELECT herald.reset_stats('regress stats')$$);
SELECT try($$SELECT herald.reset_stats('regress stats heard')$$);
SELECT try($$SELECT herald.reset_stats('')$$);
SET ROLE regress_herald_owner;
SELECT try($$SELECT herald.reset_stats('regress stats')$$);
SELECT try($$SELECT herald.reset_stats('regress stats heard')$$);
RESET ROLE;
SELECT * FROM mine;
SET ROLE regress_herald_monitor;
SELECT herald.reset_stats();
RESET ROLE;
SELECT * FROM mine;

-- A dropped channel takes its counts with it, once the drop is committed.
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
BEGIN;
SELECT herald.drop_channel('regress stats');
ROLLBACK;
SELECT channel, published FROM mine;
SELECT herald.drop_channel('regress stats');
SELECT channel, published FROM mine;
SELECT herald.publish('regress stats', '{}') IS NOT NULL AS stored;
CALL await_announced('regress stats', 1);
SELECT channel, published, announced FROM mine;

DROP PROCEDURE await_announced;
DROP VIEW mine;
DROP FUNCTION try;
REVOKE CREATE ON DATABASE :"database" FROM regress_herald_owner;
DROP ROLE regress_herald_owner, regress_herald_guest, regress_herald_monitor;
