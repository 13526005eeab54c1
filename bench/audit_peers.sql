-- What one would use without pg_herald, each with a table and a log of its own: triggers of the kind that supa_audit
-- and audit-trigger have, and two in plain PL/pgSQL. All logs tell the transaction, the user, the time, the
-- operation, the table and the row, and have an index by row, one by former row, and BRIN by time.

CREATE EXTENSION hstore SCHEMA public;
CREATE EXTENSION "uuid-ossp" SCHEMA public;
CREATE SCHEMA bench;

CREATE TABLE bench.orders (
    id         bigint PRIMARY KEY,
    customer   text NOT NULL,
    state      text NOT NULL,
    amount     numeric(12, 2) NOT NULL,
    quantity   integer NOT NULL,
    paid       boolean NOT NULL,
    note       text,
    created_at timestamptz NOT NULL
);
CREATE TABLE bench.bare (LIKE bench.orders INCLUDING ALL);
CREATE TABLE bench.herald_full (LIKE bench.orders INCLUDING ALL);
CREATE TABLE bench.herald_diff (LIKE bench.orders INCLUDING ALL);
CREATE TABLE bench.supa_audit (LIKE bench.orders INCLUDING ALL);
CREATE TABLE bench.audit_trigger (LIKE bench.orders INCLUDING ALL);
CREATE TABLE bench.row_trigger (LIKE bench.orders INCLUDING ALL);
CREATE TABLE bench.statement_trigger (LIKE bench.orders INCLUDING ALL);

-- As supa_audit: a row trigger, the row's identity a uuid of version 5 made of the key's values.

CREATE TYPE bench.operation AS ENUM ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE');
CREATE TABLE bench.supa_audit_log (
    id             bigint GENERATED ALWAYS AS IDENTITY,
    record_id      uuid,
    old_record_id  uuid,
    op             bench.operation NOT NULL,
    ts             timestamptz NOT NULL DEFAULT clock_timestamp(),
    table_oid      oid NOT NULL,
    table_schema   name NOT NULL,
    table_name     name NOT NULL,
    record         jsonb,
    old_record     jsonb,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    user_name      name NOT NULL DEFAULT current_user,
    CHECK (coalesce(record_id, old_record_id) IS NOT NULL OR op = 'TRUNCATE'),
    CHECK (op IN ('INSERT', 'UPDATE') = (record_id IS NOT NULL)),
    CHECK (op IN ('INSERT', 'UPDATE') = (record IS NOT NULL)),
    CHECK (op IN ('UPDATE', 'DELETE') = (old_record_id IS NOT NULL)),
    CHECK (op IN ('UPDATE', 'DELETE') = (old_record IS NOT NULL))
);
CREATE INDEX ON bench.supa_audit_log USING brin (ts);
CREATE INDEX ON bench.supa_audit_log (record_id) WHERE record_id IS NOT NULL;
CREATE INDEX ON bench.supa_audit_log (old_record_id) WHERE old_record_id IS NOT NULL;

CREATE FUNCTION bench.primary_key_columns(entity oid) RETURNS text[] STABLE SECURITY DEFINER
LANGUAGE sql SET search_path = '' AS $$
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}'::text[])
      FROM pg_catalog.pg_index AS i
      JOIN pg_catalog.pg_attribute AS a ON i.indrelid = a.attrelid AND a.attnum = ANY (i.indkey)
     WHERE i.indrelid = entity AND i.indisprimary
$$;
CREATE FUNCTION bench.to_record_id(entity oid, key text[], record jsonb) RETURNS uuid STABLE LANGUAGE sql AS $$
    SELECT CASE
        WHEN record IS NULL THEN NULL
        WHEN key = '{}' THEN gen_random_uuid()
        ELSE (SELECT public.uuid_generate_v5('fd62bc3d-8d6e-43c2-919c-802ba3762271',
                                             (jsonb_build_array(to_jsonb(entity)) || jsonb_agg(record ->> k))::text)
                FROM unnest(key) AS x (k))
    END
$$;
CREATE FUNCTION bench.supa_audit() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
DECLARE
    key           text[] = bench.primary_key_columns(TG_RELID);
    record        jsonb = to_jsonb(NEW);
    record_id     uuid = bench.to_record_id(TG_RELID, key, record);
    old_record    jsonb = to_jsonb(OLD);
    old_record_id uuid = bench.to_record_id(TG_RELID, key, old_record);
BEGIN
    INSERT INTO bench.supa_audit_log (record_id, old_record_id, op, table_oid, table_schema, table_name, record, old_record)
    SELECT record_id, old_record_id, TG_OP::bench.operation, TG_RELID, TG_TABLE_SCHEMA, TG_TABLE_NAME, record, old_record;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON bench.supa_audit
    FOR EACH ROW EXECUTE FUNCTION bench.supa_audit();

-- As audit-trigger: a row trigger, the row and what has changed as hstore, the context in each entry.

CREATE TABLE bench.audit_trigger_log (
    event_id          bigint GENERATED ALWAYS AS IDENTITY,
    schema_name       text NOT NULL,
    table_name        text NOT NULL,
    relid             oid NOT NULL,
    session_user_name text,
    action_tstamp_tx  timestamptz NOT NULL,
    action_tstamp_stm timestamptz NOT NULL,
    action_tstamp_clk timestamptz NOT NULL,
    transaction_id    bigint,
    application_name  text,
    client_addr       inet,
    client_port       integer,
    client_query      text,
    action            text NOT NULL,
    record_id         bigint,
    old_record_id     bigint,
    row_data          public.hstore,
    changed_fields    public.hstore
);
CREATE INDEX ON bench.audit_trigger_log USING brin (action_tstamp_clk);
CREATE INDEX ON bench.audit_trigger_log (record_id);
CREATE INDEX ON bench.audit_trigger_log (old_record_id) WHERE old_record_id IS NOT NULL;

CREATE FUNCTION bench.audit_trigger() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql
SET search_path = pg_catalog, public AS $$
DECLARE
    entry         bench.audit_trigger_log;
    excluded_cols text[] = '{}';
BEGIN
    entry = ROW (nextval('bench.audit_trigger_log_event_id_seq'), TG_TABLE_SCHEMA::text, TG_TABLE_NAME::text, TG_RELID,
                 session_user::text, current_timestamp, statement_timestamp(), clock_timestamp(), txid_current(),
                 current_setting('application_name'), inet_client_addr(), inet_client_port(), NULL,
                 substring(TG_OP, 1, 1), NULL, NULL, NULL, NULL);
    IF TG_OP = 'UPDATE' THEN
        entry.record_id = NEW.id;
        entry.row_data = hstore(OLD.*) - excluded_cols;
        entry.changed_fields = (hstore(NEW.*) - entry.row_data) - excluded_cols;
        IF entry.changed_fields = hstore('') THEN
            RETURN NULL;
        END IF;
    ELSIF TG_OP = 'DELETE' THEN
        entry.record_id = OLD.id;
        entry.row_data = hstore(OLD.*) - excluded_cols;
    ELSE
        entry.record_id = NEW.id;
        entry.row_data = hstore(NEW.*) - excluded_cols;
    END IF;
    INSERT INTO bench.audit_trigger_log OVERRIDING SYSTEM VALUE VALUES (entry.*);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON bench.audit_trigger
    FOR EACH ROW EXECUTE FUNCTION bench.audit_trigger();

-- In plain PL/pgSQL, made for this very table.

CREATE TABLE bench.row_trigger_log (
    id              bigint GENERATED ALWAYS AS IDENTITY,
    transaction_id  xid8 NOT NULL DEFAULT pg_current_xact_id(),
    user_name       text NOT NULL DEFAULT current_user,
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    operation       text NOT NULL,
    schema_name     text NOT NULL,
    table_name      text NOT NULL,
    record_id       bigint,
    old_record_id   bigint,
    old             jsonb,
    new             jsonb
);
CREATE INDEX ON bench.row_trigger_log USING brin (changed_at);
CREATE INDEX ON bench.row_trigger_log (record_id);
CREATE INDEX ON bench.row_trigger_log (old_record_id) WHERE old_record_id IS NOT NULL;
CREATE TABLE bench.statement_trigger_log (LIKE bench.row_trigger_log INCLUDING ALL);

CREATE FUNCTION bench.row_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO bench.row_trigger_log (operation, schema_name, table_name, record_id, new)
        VALUES (TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, NEW.id, to_jsonb(NEW));
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO bench.row_trigger_log (operation, schema_name, table_name, record_id, old_record_id, old, new)
        VALUES (TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, NEW.id, nullif(OLD.id, NEW.id), to_jsonb(OLD), to_jsonb(NEW));
    ELSE
        INSERT INTO bench.row_trigger_log (operation, schema_name, table_name, record_id, old)
        VALUES (TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, OLD.id, to_jsonb(OLD));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON bench.row_trigger
    FOR EACH ROW EXECUTE FUNCTION bench.row_trigger();

CREATE FUNCTION bench.statement_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO bench.statement_trigger_log (operation, schema_name, table_name, record_id, new)
        SELECT TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, n.id, to_jsonb(n) FROM new_rows AS n;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO bench.statement_trigger_log (operation, schema_name, table_name, record_id, old, new)
        SELECT TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, n.id, to_jsonb(o), to_jsonb(n)
          FROM old_rows AS o JOIN new_rows AS n USING (id);
    ELSE
        INSERT INTO bench.statement_trigger_log (operation, schema_name, table_name, record_id, old)
        SELECT TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, o.id, to_jsonb(o) FROM old_rows AS o;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_insert AFTER INSERT ON bench.statement_trigger REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bench.statement_trigger();
CREATE TRIGGER audit_update AFTER UPDATE ON bench.statement_trigger REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bench.statement_trigger();
CREATE TRIGGER audit_delete AFTER DELETE ON bench.statement_trigger REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bench.statement_trigger();
