-- Channels: declaring, changing, granting, dropping, and who may.
CREATE EXTENSION IF NOT EXISTS pg_herald;
SET client_min_messages = notice;
CREATE ROLE regress_herald_owner;
CREATE ROLE regress_herald_team;
CREATE ROLE regress_herald_member IN ROLE regress_herald_team;
CREATE ROLE regress_herald_guest;
SELECT current_database() AS database \gset
GRANT CREATE ON DATABASE :"database" TO regress_herald_owner, regress_herald_team;

CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    hint := replace(hint, session_user, 'session user');
    RETURN concat(SQLSTATE, ': ', message, nullif(E'\nDETAIL: ' || detail, E'\nDETAIL: '),
                  nullif(E'\nHINT: ' || hint, E'\nHINT: '));
END $$;
CREATE VIEW mine AS
SELECT channel, replace(owner, session_user, 'session user') AS owner, durable, announce, accept_notify, max_payload_bytes, privileges, description
  FROM herald.channels WHERE channel LIKE 'regress%' ORDER BY channel;
GRANT SELECT ON mine TO PUBLIC;

-- Defaults, and every option.
SELECT herald.create_channel('regress a');
SELECT herald.create_channel('regress b', durable => false, description => 'live prices');
SELECT herald.create_channel('regress c', announce => 'payload', accept_notify => true, max_payload_bytes => 100);
SELECT herald.create_channel(E'regress "d"\n', validation => 'off', announce => 'off');
SELECT * FROM mine;
SELECT herald.create_channel('regress a', if_not_exists => true);
SELECT try($$SELECT herald.create_channel('regress a')$$);

-- What does not fit together.
SELECT try($$SELECT herald.create_channel(NULL)$$);
SELECT try($$SELECT herald.create_channel('')$$);
SELECT try($$SELECT herald.create_channel(repeat('x', 64))$$);
SELECT try($$SELECT herald.create_channel('regress e', accept_notify => true, durable => false)$$);
SELECT try($$SELECT herald.create_channel('regress e', announce => 'pointer', durable => false)$$);
SELECT try($$SELECT herald.create_channel('regress e', announce => 'loudly')$$);
SELECT try($$SELECT herald.create_channel('regress e', validation => 'maybe')$$);
SELECT try($$SELECT herald.create_channel('regress e', max_payload_bytes => -1)$$);
SELECT try($$SELECT herald.create_channel('regress e', schema => '[]')$$);

-- NULL keeps.
SELECT herald.alter_channel('regress c', description => 'orders');
SELECT herald.alter_channel('regress c', announce => 'off', accept_notify => false, max_payload_bytes => 0);
SELECT herald.alter_channel('regress b', durable => true);
SELECT * FROM mine WHERE channel IN ('regress b', 'regress c');
SELECT try($$SELECT herald.alter_channel('regress a', durable => false)$$);
SELECT try($$SELECT herald.alter_channel('regress b', durable => false, accept_notify => true)$$);
SELECT try($$SELECT herald.alter_channel('regress nowhere')$$);
SELECT try($$SELECT herald.alter_channel('regress a', owner => 'regress_herald_nobody')$$);

-- The session that changes a channel sees the change at once, also in one transaction, also undone.
BEGIN;
SELECT herald.publish('regress e', '1') IS NOT NULL AS stored;
SELECT herald.create_channel('regress e', announce => 'off');
SELECT herald.publish('regress e', '2') IS NOT NULL AS stored;
SAVEPOINT s;
SELECT herald.alter_channel('regress e', durable => false);
SELECT herald.publish('regress e', '3') IS NOT NULL AS stored;
ROLLBACK TO s;
SELECT herald.publish('regress e', '4') IS NOT NULL AS stored;
ROLLBACK;
SELECT herald.publish('regress e', '5') IS NOT NULL AS stored;

-- Rights: CREATE on the database to declare, the owner's to change.
SET ROLE regress_herald_guest;
SELECT try($$SELECT herald.create_channel('regress g')$$);
SELECT try($$SELECT herald.alter_channel('regress a', description => 'mine')$$);
SELECT try($$SELECT herald.drop_channel('regress a', force => true)$$);
SELECT try($$SELECT herald.grant_channel('regress a', 'regress_herald_guest')$$);
SELECT try($$SELECT herald.revoke_channel('regress a', 'public')$$);
SELECT * FROM mine;
SET ROLE regress_herald_owner;
SELECT herald.create_channel('regress o');
SELECT try($$SELECT herald.alter_channel('regress o', owner => 'regress_herald_team')$$);
RESET ROLE;
GRANT regress_herald_team TO regress_herald_owner;
SET ROLE regress_herald_owner;
SELECT herald.alter_channel('regress o', owner => 'regress_herald_team');
SELECT * FROM mine;
RESET ROLE;
GRANT regress_herald_guest TO regress_herald_owner;
SET ROLE regress_herald_owner;
SELECT try($$SELECT herald.alter_channel('regress o', owner => 'regress_herald_guest')$$);
SET ROLE regress_herald_member;
SELECT herald.alter_channel('regress o', description => 'by a member');
SELECT * FROM mine;
RESET ROLE;

-- Grants.
SELECT herald.grant_channel('regress a', 'regress_herald_guest');
SELECT herald.grant_channel('regress a', 'regress_herald_guest', '{read,subscribe}');
SELECT herald.grant_channel('regress a', 'regress_herald_guest', '{read}');
SELECT herald.grant_channel('regress a', 'public', '{subscribe}');
SELECT herald.grant_channel('regress b', 'regress_herald_team', '{publish}');
SELECT channel, privileges FROM mine WHERE channel IN ('regress a', 'regress b');
SELECT try($$SELECT herald.grant_channel('regress a', 'regress_herald_nobody')$$);
SELECT try($$SELECT herald.grant_channel('regress a', NULL)$$);
SELECT try($$SELECT herald.grant_channel('regress a', 'public', '{shout}')$$);
SELECT try($$SELECT herald.grant_channel('regress a', 'public', '{NULL}')$$);
SELECT try($$SELECT herald.grant_channel('regress nowhere', 'public')$$);

SELECT role, privilege, herald.has_channel_privilege(role, 'regress a', privilege) AS a,
       herald.has_channel_privilege(role, 'regress b', privilege) AS b,
       herald.has_channel_privilege(role, 'regress o', privilege) AS o,
       herald.has_channel_privilege(role, 'regress undeclared', privilege) AS undeclared
  FROM unnest('{regress_herald_guest,regress_herald_member,regress_herald_owner}'::text[]) AS role,
       unnest('{publish,subscribe,read}'::text[]) AS privilege
 ORDER BY role, privilege;
SELECT herald.has_channel_privilege('regress_herald_guest', 'regress b', 'read, subscribe') AS any_of,
       herald.has_channel_privilege(current_user::text, 'regress b', 'read') AS superuser;
SELECT try($$SELECT herald.has_channel_privilege('regress_herald_nobody', 'regress a', 'read')$$);
SELECT try($$SELECT herald.has_channel_privilege('regress_herald_guest', 'regress a', 'shout')$$);
SET ROLE regress_herald_guest;
SELECT channel FROM mine;
RESET ROLE;

SELECT herald.revoke_channel('regress a', 'regress_herald_guest', '{publish,read}');
SELECT herald.revoke_channel('regress a', 'public', '{subscribe,read}');
SELECT channel, privileges FROM mine WHERE channel = 'regress a';
-- A grant to a role that was dropped can be taken back.
CREATE ROLE regress_herald_gone;
SELECT herald.grant_channel('regress a', 'regress_herald_gone');
DROP ROLE regress_herald_gone;
SELECT channel, privileges FROM mine WHERE channel = 'regress a';
SELECT herald.revoke_channel('regress a', 'regress_herald_gone');
SELECT channel, privileges FROM mine WHERE channel = 'regress a';

-- A channel whose owner was dropped is left to superusers.
CREATE ROLE regress_herald_gone;
SELECT herald.alter_channel('regress c', owner => 'regress_herald_gone');
DROP ROLE regress_herald_gone;
SET ROLE regress_herald_owner;
SELECT try($$SELECT herald.drop_channel('regress c')$$);
RESET ROLE;
SELECT herald.drop_channel('regress c');

-- Dropping.
SELECT herald.drop_channel('regress nowhere', if_exists => true);
SELECT try($$SELECT herald.drop_channel('regress nowhere')$$);
SELECT herald.publish('regress a', '1') IS NOT NULL AS stored;
SELECT herald.drop_channel('regress a');
SELECT herald.publish('regress a', '1') IS NOT NULL AS stored;
-- Not while someone waits for its messages, unless told to.
CREATE FUNCTION on_message(jsonb) RETURNS void LANGUAGE sql AS '';
CREATE ROLE regress_herald_runner LOGIN;
SELECT herald.subscribe('regress sub', 'regress b', 'on_message(jsonb)', run_as => 'regress_herald_runner');
SELECT herald.pause('regress sub');
SELECT herald.publish('regress b', '1') IS NOT NULL AS stored;
SELECT try($$SELECT herald.drop_channel('regress b')$$);
SELECT try($$SELECT herald.alter_channel('regress b', durable => false)$$);
SELECT herald.drop_channel('regress b', force => true);
SELECT count(*) FROM herald_internal.subscription_store WHERE subscription = 'regress sub';

SELECT herald.drop_channel('regress o'), herald.drop_channel(E'regress "d"\n');
SELECT * FROM mine;
DROP VIEW mine;
DROP FUNCTION try, on_message;
REVOKE CREATE ON DATABASE :"database" FROM regress_herald_owner, regress_herald_team;
DROP ROLE regress_herald_owner, regress_herald_team, regress_herald_member, regress_herald_guest,
          regress_herald_runner;
