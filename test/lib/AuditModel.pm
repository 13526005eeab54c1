# What audit trails are compared with: beside each audited table a plain PL/pgSQL row trigger notes what it sees
# (model.shadow), and options say what the trail should have made of it (model.expected). model.copy is a table
# made of the trail alone.

package AuditModel;

use strict;
use warnings;
use Exporter 'import';

our @EXPORT = qw(install_model);

sub install_model
{
	my ($node) = @_;
	$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA model;
CREATE TABLE model.options (
    tab text PRIMARY KEY, relation text, record text, key text[], excluded text[], masked text[], hashed text[], operations text[]
);
CREATE TABLE model.shadow (
    number bigserial, transaction_id xid8, step text, role text, who text, user_name text,
    operation text, before jsonb, after jsonb, options model.options
);
CREATE TABLE model.truncated (transaction_id xid8 DEFAULT pg_current_xact_id(), table_name text);
CREATE TABLE model.copy (tab text, image jsonb);
CREATE TABLE model.replayed (id bigint PRIMARY KEY);

CREATE FUNCTION model.note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    chosen model.options;
BEGIN
    SELECT * INTO chosen FROM model.options WHERE tab = TG_ARGV[0];
    IF lower(TG_OP) = ANY (chosen.operations) THEN
        INSERT INTO model.shadow (transaction_id, step, role, who, user_name, operation, before, after, options)
        VALUES (pg_current_xact_id(), current_setting('model.step'), current_setting('session_replication_role'),
                NULLIF(current_setting('app.who', true), ''), current_user, lower(TG_OP),
                CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END, chosen);
    END IF;
    RETURN NULL;
END $$;
-- Swallows some rows and changes others.
CREATE FUNCTION model.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RETURN CASE WHEN OLD.v % 13 = 5 THEN NULL ELSE OLD END;
    ELSIF NEW.v % 13 = 7 AND (TG_OP = 'UPDATE' OR TG_NARGS = 0) THEN
        RETURN NULL;
    ELSIF NEW.v % 5 = 2 THEN
        NEW.note := 'meddled';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION model.pick(image jsonb, names text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(image) WHERE key = ANY (names) $$;
CREATE FUNCTION model.show(image jsonb, options model.options) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, CASE WHEN value = 'null' THEN value
                                      WHEN key = ANY (options.masked) THEN '"***"'
                                      WHEN key = ANY (options.hashed) THEN '"hmac"'
                                      ELSE value END)
      FROM jsonb_each(image) WHERE key <> ALL (options.excluded) $$;
CREATE FUNCTION model.changes(before jsonb, after jsonb, options model.options) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(key ORDER BY key) FROM jsonb_each(before) AS b JOIN jsonb_each(after) AS a USING (key)
     WHERE b.value::text <> a.value::text AND key <> ALL (options.excluded) $$;
CREATE FUNCTION model.unhash(image jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(image::text, '"hmac:[0-9a-f]{32}"', '"hmac"', 'g')::jsonb $$;

-- A row that moves to another partition is a DELETE and an INSERT for row triggers, and an UPDATE for who named the
-- whole table. uid never changes and belongs to one row.
CREATE VIEW model.seen AS
WITH moved AS (
    SELECT d.number AS deleted, (SELECT min(i.number) FROM model.shadow AS i
            WHERE i.transaction_id = d.transaction_id AND i.step = d.step AND i.operation = 'insert' AND i.number > d.number
              AND i.after -> 'uid' = d.before -> 'uid' AND (i.options).tab = (d.options).tab) AS inserted
      FROM model.shadow AS d WHERE d.operation = 'delete' AND d.role <> 'replica')
SELECT s.number, s.transaction_id, s.who, s.user_name, CASE WHEN m.inserted IS NULL THEN s.operation ELSE 'update' END AS operation,
       s.before, COALESCE(s.after, i.after) AS after, s.options
  FROM model.shadow AS s LEFT JOIN moved AS m ON m.deleted = s.number LEFT JOIN model.shadow AS i ON i.number = m.inserted
 WHERE s.number NOT IN (SELECT inserted FROM moved WHERE inserted IS NOT NULL);

CREATE VIEW model.expected AS
SELECT s.number, COALESCE(s.after, s.before) ->> 'uid' AS uid, s.transaction_id, (s.options).tab, s.operation, s.who, s.user_name,
       model.pick(COALESCE(s.after, s.before), (s.options).key) AS record_id,
       (SELECT jsonb_agg(s.before -> name) FROM unnest((s.options).key) AS name) AS identity_before,
       (SELECT jsonb_agg(s.after -> name) FROM unnest((s.options).key) AS name) AS identity_after,
       CASE WHEN s.operation = 'update' AND c.changed && (s.options).key
            THEN model.pick(s.before, (s.options).key) END AS old_record_id,
       CASE WHEN r.record = 'keys' THEN NULL
            WHEN r.record = 'diff' AND s.operation = 'update' THEN model.pick(model.show(s.before, s.options), c.changed)
            ELSE model.show(s.before, s.options) END AS old,
       CASE WHEN r.record = 'keys' THEN NULL
            WHEN r.record = 'diff' AND s.operation = 'update' THEN model.pick(model.show(s.after, s.options), c.changed)
            ELSE model.show(s.after, s.options) END AS new,
       c.changed
  FROM model.seen AS s
       CROSS JOIN LATERAL (SELECT model.changes(s.before, s.after, s.options) AS changed) AS c
       CROSS JOIN LATERAL (SELECT CASE WHEN (s.options).key = '{}' THEN 'full' ELSE (s.options).record END AS record) AS r
 WHERE s.operation <> 'update' OR c.changed IS NOT NULL;

CREATE VIEW model.actual AS
SELECT id, transaction_id, sequence, changed_at, substring(table_name FROM '^t[0-9]+') AS tab, table_name, operation, context ->> 'app.who' AS who,
       current_user_name AS user_name, record_id, old_record_id, model.unhash(old) AS old, model.unhash(new) AS new,
       (SELECT array_agg(name ORDER BY name) FROM unnest(changed) AS name) AS changed
  FROM herald.audit_log WHERE operation IN ('insert', 'update', 'delete', 'truncate');

-- Makes the copy anew from the table.
CREATE FUNCTION model.rebase(which text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    chosen model.options;
BEGIN
    SELECT * INTO chosen FROM model.options WHERE tab = which;
    DELETE FROM model.copy WHERE tab = which;
    EXECUTE format('INSERT INTO model.copy SELECT %L, model.show(to_jsonb(t), $1) FROM %s AS t', which, chosen.relation) USING chosen;
    INSERT INTO model.replayed SELECT id FROM model.actual WHERE tab = which ON CONFLICT DO NOTHING;
END $$;

-- Applies what the trail has more to the copy, statement by statement, and compares: '' or what is wrong.
CREATE FUNCTION model.replay(which text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    chosen model.options;
    step record;
    found bigint;
    differs bigint;
BEGIN
    SELECT * INTO chosen FROM model.options WHERE tab = which;
    CREATE TEMP TABLE entries ON COMMIT DROP AS
        SELECT * FROM model.actual WHERE tab = which AND id NOT IN (SELECT id FROM model.replayed);
    FOR step IN SELECT transaction_id, changed_at, operation, count(*) AS rows, min(id) AS id FROM entries
                 GROUP BY transaction_id, changed_at, operation ORDER BY transaction_id, min(sequence) LOOP
        IF step.operation = 'truncate' THEN
            DELETE FROM model.copy WHERE tab = which;
            CONTINUE;
        ELSIF step.operation = 'update' AND chosen.record = 'diff' AND chosen.key <> '{}' THEN
            UPDATE model.copy AS c SET image = c.image || e.new
              FROM entries AS e
             WHERE e.transaction_id = step.transaction_id AND e.changed_at = step.changed_at AND e.operation = 'update' AND c.tab = which
               AND c.image @> COALESCE(e.old_record_id, e.record_id) AND model.pick(c.image, e.changed) = e.old;
            GET DIAGNOSTICS found = ROW_COUNT;
        ELSE
            found := step.rows;
            IF step.operation <> 'insert' THEN
                DELETE FROM model.copy WHERE ctid IN (
                    SELECT c.ctid FROM (SELECT ctid, image, row_number() OVER (PARTITION BY image::text) AS n FROM model.copy WHERE tab = which) AS c
                      JOIN (SELECT old, row_number() OVER (PARTITION BY old::text) AS n FROM entries
                             WHERE transaction_id = step.transaction_id AND changed_at = step.changed_at AND operation = step.operation) AS e
                        ON e.old::text = c.image::text AND e.n = c.n);
                GET DIAGNOSTICS found = ROW_COUNT;
            END IF;
            INSERT INTO model.copy SELECT which, new FROM entries
             WHERE transaction_id = step.transaction_id AND changed_at = step.changed_at AND operation = step.operation AND operation <> 'delete';
        END IF;
        IF found <> step.rows THEN
            RETURN format('%s of %s entries of %s in transaction %s (from %s) apply', found, step.rows, step.operation, step.transaction_id, step.id);
        END IF;
    END LOOP;
    EXECUTE format('SELECT count(*) FROM (
        (SELECT image::text FROM model.copy WHERE tab = %L EXCEPT ALL SELECT model.show(to_jsonb(t), $1)::text FROM %s AS t) UNION ALL
        (SELECT model.show(to_jsonb(t), $1)::text FROM %2$s AS t EXCEPT ALL SELECT image::text FROM model.copy WHERE tab = %1$L)) AS d',
        which, chosen.relation) INTO differs USING chosen;
    INSERT INTO model.replayed SELECT id FROM entries;
    DROP TABLE entries;
    RETURN CASE WHEN differs = 0 THEN '' ELSE format('%s rows differ', differs) END;
END $$;

-- Rows whose history is not what the model has seen; only of keys that never belonged to another row.
CREATE FUNCTION model.wrong_histories(which text) RETURNS SETOF text LANGUAGE sql AS $$
    WITH mine AS (SELECT * FROM model.expected WHERE tab = which),
    used AS (SELECT uid, identity_before AS id FROM mine UNION SELECT uid, identity_after FROM mine),
    shared AS (SELECT DISTINCT u.uid FROM used AS u JOIN used AS o ON o.id = u.id AND o.uid <> u.uid),
    last AS (SELECT DISTINCT ON (uid) uid, record_id FROM mine WHERE uid NOT IN (SELECT uid FROM shared) ORDER BY uid, number DESC)
    SELECT format('%s: %s, but %s', l.record_id, h.operations, s.operations)
      FROM last AS l
           CROSS JOIN LATERAL (SELECT string_agg(m.operation, ' ' ORDER BY m.number) AS operations FROM mine AS m WHERE m.uid = l.uid) AS s
           CROSS JOIN LATERAL (SELECT string_agg(a.operation, ' ' ORDER BY a.ordinality) AS operations
                                 FROM herald.audit_history((SELECT relation FROM model.options WHERE tab = which)::regclass, l.record_id)
                                      WITH ORDINALITY AS a) AS h
     WHERE h.operations IS DISTINCT FROM s.operations $$;
GRANT USAGE ON SCHEMA model TO PUBLIC;
GRANT SELECT ON model.options TO PUBLIC;
GRANT INSERT ON model.shadow TO PUBLIC;
GRANT USAGE ON SEQUENCE model.shadow_number_seq TO PUBLIC;
SQL
	return;
}

1;
