-- What a feed says of rows that a statement changes more than once: by triggers of its rows, by foreign keys of the table to
-- itself, by the parts of a MERGE. Their notes come in another order than the changes.
CREATE SCHEMA nested;
SET search_path = nested;
CREATE TABLE item (id integer PRIMARY KEY, parent integer REFERENCES item ON UPDATE CASCADE, v text);
CREATE FUNCTION published() RETURNS TABLE (channel text, payload jsonb) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT c.channel, l.payload - 'table' FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
                  WHERE c.channel LIKE 'nested %' ORDER BY c.channel, l.payload::text;
    DELETE FROM herald_internal.log_0;
END $$;
DELETE FROM herald_internal.log_0;
SELECT herald.create_channel('nested ' || kind), herald.enable_change_feed('item', 'nested ' || kind, message => kind)
  FROM unnest('{diff,row}'::text[]) AS kind;

-- AFTER triggers come after their row's change, though what they do is noted first
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() > 1 THEN
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO item VALUES (OLD.id, NULL, 'kept');
    ELSE
        UPDATE item SET v = v || '!' WHERE id = NEW.id;
        BEGIN
            UPDATE item SET v = 'rolled back' WHERE id = NEW.id;
            RAISE EXCEPTION 'back';
        EXCEPTION WHEN raise_exception THEN
        END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER again AFTER INSERT OR UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION again();
INSERT INTO item VALUES (1, NULL, 'one'), (2, 1, 'two');
SELECT * FROM published();
UPDATE item SET v = 'uno' WHERE id = 1;
SELECT * FROM published();
DELETE FROM item WHERE id = 2;
SELECT * FROM published();
BEGIN;
DELETE FROM item WHERE id = 2;
UPDATE item SET v = 'two', parent = 1 WHERE id = 2;
INSERT INTO item VALUES (3, NULL, 'three');
UPDATE item SET v = 'tre' WHERE id = 3;
COMMIT;
SELECT * FROM published();
DROP TRIGGER again ON item;

-- a BEFORE trigger comes before it
CREATE FUNCTION make_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM item WHERE id = NEW.id;
    RETURN NEW;
END $$;
CREATE TRIGGER make_room BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION make_room();
INSERT INTO item VALUES (3, NULL, 'replaced');
SELECT * FROM published();
DROP TRIGGER make_room ON item;

-- the foreign key changes a row that the statement has given another key
UPDATE item SET id = id + 100;
SELECT * FROM published();
TABLE item ORDER BY id;

-- a row that one foreign key changes and another deletes
CREATE TABLE tree (id integer PRIMARY KEY, parent integer REFERENCES tree ON DELETE CASCADE, root integer REFERENCES tree ON DELETE SET NULL);
SELECT herald.enable_change_feed('tree', 'nested diff', message => 'diff');
INSERT INTO tree VALUES (1, NULL, NULL), (2, 1, 1), (3, 2, 1), (4, NULL, 3);
DELETE FROM herald_internal.log_0;
DELETE FROM tree WHERE id = 1;
SELECT * FROM published();
TABLE tree;

-- an INSERT takes the key that a DELETE or UPDATE of the same MERGE leaves, which must come first
SET enable_mergejoin = off;
BEGIN;
UPDATE item SET v = 'changed before' WHERE id = 102;
MERGE INTO item USING (VALUES (102, 102, 'merged'), (0, 102, 'merged'), (103, 103, 'merged'), (0, 103, 'merged')) AS s (match, id, v)
   ON s.match = item.id
 WHEN MATCHED AND s.id = 102 THEN DELETE
 WHEN MATCHED THEN UPDATE SET id = item.id + 100
 WHEN NOT MATCHED THEN INSERT VALUES (s.id, NULL, s.v);
COMMIT;
SELECT * FROM published();
TABLE item ORDER BY id;

RESET enable_mergejoin;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA nested CASCADE;
SELECT herald.drop_channel('nested ' || kind) FROM unnest('{diff,row}'::text[]) AS kind;
