-- Names of channels and subscriptions are kept exactly: case, blanks, quotes, newlines, other scripts, up to 63
-- bytes; through publish, announcements, plain NOTIFYs, handlers, views and error messages.
-- How wide some characters are shown depends on the version.
\pset format unaligned
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE regress_herald_app LOGIN;
CREATE TABLE seen (task herald.task);
GRANT INSERT ON seen TO regress_herald_app;
CREATE FUNCTION note(task herald.task) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES (task) $$;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN concat(SQLSTATE, ': ', SQLERRM);
END $$;
CREATE TABLE names (n integer GENERATED ALWAYS AS IDENTITY, name text COLLATE "C", what text);
INSERT INTO names (name, what) VALUES
    ('Regress', 'upper case'), ('regress', 'its lower case'), ('REGRESS', 'all upper case'),
    (' regress ', 'blanks'), ('re gress', 'a blank'), ('"regress"', 'double quotes'), ('re''gress', 'a quote'), ('re\gress', 'a backslash'),
    (E're\ngress', 'a newline'), (E're\tgress\r', 'other white space'), ('re%gress%s%n', 'percent signs'), ('re$gress$1', 'dollars'),
    ('regress;--', 'punctuation'), ('{regress,NULL}', 'an array'), ('null', 'a word'), ('public', 'another word'), ('1', 'a number'),
    ('é', 'an accent'), (E'e\u0301', 'the accent by itself'), ('名前', 'another script'), (E'\U0001F4EE', 'an emoji'),
    (repeat('x', 63), '63 bytes'), (repeat('é', 31) || 'x', '63 bytes, 32 characters'), (repeat('é', 31), '62 bytes'), (repeat(E'\U0001F4EE', 15), '60 bytes, 15 characters'),
    (repeat('x', 62) || 'X', '63 bytes that differ in the last');

SELECT count(herald.create_channel(name, announce => 'off', accept_notify => true, description => what)) FROM names;
SELECT count(herald.subscribe(name, name, 'note', run_as => 'regress_herald_app')) FROM names;
-- In the views.
SELECT count(*) FROM names JOIN herald.channels AS c ON c.channel = name AND c.description = what;
SELECT count(*) FROM names JOIN herald.subscriptions AS s ON s.subscription = name AND s.channel = name;
SELECT to_json(channel) AS channel, octet_length(channel) AS bytes, description FROM herald.channels WHERE channel IN (SELECT name FROM names) ORDER BY channel COLLATE "C";
SELECT count(*) FROM names WHERE herald.has_channel_privilege(current_user::text, name, 'read');

-- Published by its name, a message reaches the one handler of that name.
SELECT count(herald.publish(name, to_jsonb(what))) FROM names;
SELECT count(*) FROM names, herald.publish_batch(name, ARRAY[to_jsonb(n)]);
SELECT bool_and(herald.wait_idle(name, '60 s')) FROM names;
SELECT count(*), count(DISTINCT name) AS names, bool_and((task).subscription = name) AS to_itself
  FROM seen JOIN names ON (task).channel = name AND (task).payload IN (to_jsonb(what), to_jsonb(n));
SELECT count(*) FROM names JOIN herald.channel_stats AS s ON s.channel = name AND s.published = 2;
SELECT count(*) FROM names JOIN herald.subscription_stats AS s ON s.subscription = name AND s.done = 2 AND s.pending = 0;

-- A plain NOTIFY, too. The announcer listens some time after the channels were declared.
DO $$
BEGIN
    FOR i IN 1 .. 300 LOOP
        PERFORM pg_notify(name, 'sign of life') FROM names
          WHERE NOT EXISTS (SELECT FROM seen WHERE (task).channel = name AND (task).payload = '{"task_id": "sign of life"}');
        EXIT WHEN NOT FOUND;
        COMMIT;
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
CREATE VIEW notified AS SELECT task FROM seen WHERE (task).payload <> '{"task_id": "sign of life"}' AND jsonb_typeof((task).payload) = 'object';
SELECT count(pg_notify(name, n::text)) FROM names;
NOTIFY "Regress", '{"said": "Regress"}';
NOTIFY REGRESS, '{"said": "regress"}';
NOTIFY "名前", '{"said": "名前"}';
-- An identifier is cut after 63 bytes, at a character.
NOTIFY ééééééééééééééééééééééééééééééééé, '{"said": "é"}';
DO $$
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXIT WHEN (SELECT count(*) = 4 + (SELECT count(*) FROM names) FROM notified);
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT count(*), bool_and((task).payload = jsonb_build_object('task_id', n::text) AND (task).subscription = name) AS to_itself
  FROM notified JOIN names ON (task).channel = name WHERE (task).payload ? 'task_id';
SELECT what, (task).payload FROM notified JOIN names ON (task).channel = name WHERE (task).payload ? 'said' ORDER BY n;

-- Undeclared names are as free, in publish and notify.
SELECT count(*), count(herald.publish(name || '!', '1')) AS stored FROM names WHERE octet_length(name) < 63;
SELECT count(*) FROM names WHERE octet_length(name) < 63 AND herald.notify(name || '?', 'text') IS NOT NULL;
SELECT count(*) FROM names JOIN herald.channel_stats AS s ON s.channel = name || '!' AND s.published = 1;

-- What is no name.
SELECT try(format('SELECT herald.%s', call)) FROM unnest(ARRAY[
    'create_channel('''')', 'create_channel(repeat(''x'', 64))', 'create_channel(repeat(''é'', 32))', 'create_channel(NULL)',
    'subscribe('''', ''regress'', ''note'')', 'subscribe(repeat(''é'', 32), ''regress'', ''note'')', 'subscribe(NULL, ''regress'', ''note'')',
    'publish(repeat(''é'', 32), ''1'')', 'notify(repeat(''é'', 32), ''1'')', 'grant_channel('''', ''public'')']) AS call;
-- Errors name the name, and nothing but the exact name is meant.
SELECT try(format('SELECT herald.alter_channel(%L)', name)), try(format('SELECT herald.pause(%L)', name))
  FROM (VALUES ('rEGRESS'), (E're\n"gress"'), ('名'), (' Regress')) AS m (name);

-- A name is free again when its channel is gone.
SELECT count(herald.drop_channel(name, force => true)) FROM names;
SELECT count(*) FROM names JOIN herald.channels AS c ON c.channel = name;
SELECT count(herald.publish(name, '1')) AS stored FROM names;
DROP VIEW notified;
DROP TABLE seen, names;
DROP FUNCTION note, try;
DROP ROLE regress_herald_app;
