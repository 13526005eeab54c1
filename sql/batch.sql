-- publish_batch: ids in order, what an element may be, all or nothing.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat(SQLSTATE, ': ', message, nullif(E'\nDETAIL: ' || detail, E'\nDETAIL: '),
                  nullif(E'\nHINT: ' || hint, E'\nHINT: '));
END $$;
CREATE VIEW stored AS
SELECT l.* FROM (TABLE herald_internal.log_0 UNION ALL TABLE herald_internal.log_1 UNION ALL TABLE herald_internal.log_2) AS l
  JOIN herald_internal.channel_store AS c ON c.id = l.channel_id WHERE c.channel = 'regress batch';
SELECT herald.create_channel('regress batch', announce => 'off');

-- One id per element, in the order of the elements. (A statement does not see what it publishes itself.)
CREATE TEMP TABLE ids (place bigint, id bigint);
INSERT INTO ids SELECT place, id FROM herald.publish_batch('regress batch', ARRAY['"a"', '1', 'null', '{}', '[true]']::jsonb[])
       WITH ORDINALITY AS b (id, place);
SELECT place, herald.fetch(id), id > lag(id, 1, 0::bigint) OVER (ORDER BY place) AS increasing FROM ids ORDER BY place;
TRUNCATE ids;
INSERT INTO ids SELECT place, id FROM herald.publish_batch('regress batch', ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 5000) AS i))
       WITH ORDINALITY AS b (id, place);
SELECT count(*), count(DISTINCT i.id), bool_and(s.payload = to_jsonb(i.place)) AS in_order FROM ids AS i JOIN stored AS s USING (id);
SELECT bool_and(id > previous) AS increasing FROM (SELECT id, lag(id, 1, 0::bigint) OVER (ORDER BY place) AS previous FROM ids) AS i;
TRUNCATE ids;
-- Equal elements are messages of their own.
SELECT count(DISTINCT id) FROM herald.publish_batch('regress batch', '{1,1,1}') AS b (id);
-- Arrays need not start at 1; those of two dimensions are refused: what is meant by them?
INSERT INTO ids SELECT place, id FROM herald.publish_batch('regress batch', '[0:1]={7,8}', '[5:6]={a,b}') WITH ORDINALITY AS b (id, place);
INSERT INTO ids SELECT 0, id FROM herald.publish_batch('regress batch', '{{11,12},{13,14}}') AS id;
-- Large elements among small ones.
INSERT INTO ids SELECT place + 6, id
  FROM herald.publish_batch('regress batch', ARRAY['"x"', to_jsonb(repeat('y', 100000)), '"z"']) WITH ORDINALITY AS b (id, place);
SELECT place, key, left(payload::text, 5) AS payload, length(payload::text) FROM ids JOIN stored USING (id) ORDER BY place;
-- In a SELECT list.
SELECT herald.publish_batch('regress batch', '{1,2}') IS NOT NULL AS stored;

-- No element, no message.
SELECT count(*) FROM herald.publish_batch('regress batch', '{}');
SELECT count(*) FROM herald.publish_batch('regress batch', '{}', '{}', '{}');
SELECT count(*) FROM herald.publish_batch('regress batch', '{}', NULL, NULL);
SELECT count(*) FROM herald.publish_batch('regress undeclared', '{}');

-- Keys and headers belong to the element of their number.
SELECT count(*) FROM herald.publish_batch('regress batch', '{10001,10002,10003}', '{a,NULL,c}', ARRAY[NULL, '{"h": 2}', '{}']::jsonb[]);
SELECT count(*) FROM herald.publish_batch('regress batch', '{10004,10005}', headers => ARRAY['{"h": 4}', NULL]::jsonb[]);
SELECT count(*) FROM herald.publish_batch('regress batch', '{10006,10007}', ARRAY['', ' é']);
SELECT payload, key, headers, published_by = current_user AS by_me FROM stored
 WHERE payload BETWEEN '10001' AND '10007' ORDER BY id;

-- What is refused, with the number of the element.
SELECT try($$SELECT herald.publish_batch('regress batch', ARRAY[NULL]::jsonb[])$$);
SELECT try($$SELECT herald.publish_batch('regress batch', ARRAY['1', '2', NULL, NULL]::jsonb[])$$);
SELECT try($$SELECT herald.publish_batch('regress batch', '[0:1]={1,NULL}')$$);
SELECT try($$SELECT herald.publish_batch('regress batch', ARRAY(SELECT CASE WHEN i < 1234 THEN to_jsonb(i) END FROM generate_series(1, 2000) AS i))$$);
SELECT try($$SELECT herald.publish_batch('regress undeclared', ARRAY['1', NULL]::jsonb[])$$);
SELECT try($$SELECT herald.publish_batch('regress batch', NULL)$$);
SELECT try($$SELECT herald.publish_batch(NULL, '{1}')$$);
SELECT try($$SELECT herald.publish_batch('', '{}')$$);
SELECT try($$SELECT herald.publish_batch(repeat('x', 64), '{1}')$$);
SELECT try($$SELECT herald.publish_batch('regress batch', '{1,2}', '{a}')$$);
SELECT try($$SELECT herald.publish_batch('regress batch', '{1,2}', '{a,b,c}')$$);
SELECT try($$SELECT herald.publish_batch('regress batch', '{1,2}', '{}')$$);
SELECT try($$SELECT herald.publish_batch('regress batch', '{}', '{a}')$$);
SELECT try($$SELECT herald.publish_batch('regress batch', '{1}', NULL, ARRAY['{}', '{}']::jsonb[])$$);
SELECT try($$SELECT herald.publish_batch('regress batch', '{1,2,3}', NULL, ARRAY['{}', NULL, '"h"']::jsonb[])$$);

-- All or nothing, wherever the fault is.
SELECT count(*) AS before FROM stored \gset
SELECT herald.alter_channel('regress batch', max_payload_bytes => 100);
SELECT try($$SELECT herald.publish_batch('regress batch', ARRAY(SELECT to_jsonb(repeat('x', CASE i WHEN 900 THEN 200 ELSE 1 END)) FROM generate_series(1, 1000) AS i))$$);
SELECT herald.alter_channel('regress batch', max_payload_bytes => 0);
SELECT try($$SELECT herald.publish_batch('regress batch', ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 1000) AS i), NULL,
                                         ARRAY(SELECT CASE WHEN i = 1000 THEN '7'::jsonb END FROM generate_series(1, 1000) AS i))$$);
BEGIN;
SELECT count(*) FROM herald.publish_batch('regress batch', ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 1000) AS i));
SAVEPOINT s;
SELECT count(*) FROM herald.publish_batch('regress batch', '{1,2,3}');
ROLLBACK TO s;
SELECT count(*) - :before AS so_far FROM stored;
ROLLBACK;
SELECT count(*) - :before AS stored FROM stored;

-- Nothing is stored for an ephemeral channel: a NULL for each element.
SELECT * FROM herald.publish_batch('regress undeclared', '{1,2}');
-- ... or an id where it is too large to be announced and has to be fetched.
SELECT publish_batch IS NULL AS not_stored FROM herald.publish_batch('regress undeclared', ARRAY['1', to_jsonb(repeat('x', 9000))]);

-- Every message is counted.
SELECT herald.reset_stats('regress batch');
SELECT count(*) FROM herald.publish_batch('regress batch', '{1,2,3}');
SELECT published, rejected FROM herald.channel_stats WHERE channel = 'regress batch';

SELECT herald.drop_channel('regress batch');
DROP TABLE ids;
DROP VIEW stored;
DROP FUNCTION try;
