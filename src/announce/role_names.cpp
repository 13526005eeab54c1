// See role_names.hpp. An identity of this server is its prefix and an oid, so a join by text finds the role.

#include "announce/role_names.hpp"

#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/roles.hpp"
#include "pg/spi.hpp"

namespace herald {

namespace {

// A table's column with a role's name; the one with the identity is called the same with "_role" behind it.
struct RoleColumn {
    const char *table;
    const char *column;
    bool of_subscription;
};
constexpr RoleColumn kColumns[] = {
    {"channel_store", "owner", false},      {"channel_grant_store", "grantee", false},
    {"change_feed_store", "owner", false},  {"subscription_store", "owner", true},
    {"subscription_store", "run_as", true}, {"subscription_store", "handler_owner", true},
};

// A name that is no longer that of its role.
uint64 FollowRenames(const RoleColumn &at, const char *here) {
    return pg::SpiRun(
        psprintf("UPDATE herald_internal.%1$s AS t SET %2$s = s.name FROM ("
                 "SELECT o.ctid AS place, a.rolname::pg_catalog.text AS name FROM herald_internal.%1$s AS o "
                 "JOIN pg_catalog.pg_roles AS a ON o.%2$s_role = $1 || a.oid::pg_catalog.text "
                 "WHERE o.%2$s <> a.rolname::pg_catalog.text FOR NO KEY UPDATE OF o SKIP LOCKED) AS s "
                 "WHERE t.ctid = s.place",
                 at.table, at.column),
        std::array{pg::Text(here)});
}

// A name without a role of this server, where there is one that bears it.
uint64 Adopt(const RoleColumn &at, const char *here, const char *locking) {
    return pg::SpiRun(
        psprintf("UPDATE herald_internal.%1$s AS t SET %2$s_role = s.role FROM ("
                 "SELECT o.ctid AS place, $1 || a.oid::pg_catalog.text AS role FROM herald_internal.%1$s AS o "
                 "JOIN pg_catalog.pg_roles AS a ON a.rolname::pg_catalog.text = o.%2$s "
                 "WHERE pg_catalog.starts_with(o.%2$s_role, $1) IS NOT TRUE "
                 "FOR NO KEY UPDATE OF o %3$s) AS s WHERE t.ctid = s.place",
                 at.table, at.column, locking),
        std::array{pg::Text(here)});
}

// The identity is part of the key here. Who grants on a channel holds its row, so where that is free nobody
// adds the same privilege meanwhile, for whose commit the insert would wait.
uint64 AdoptGrantees(const char *here) {
    return pg::SpiRun(
        "WITH channel AS MATERIALIZED ("
        "SELECT c.id FROM herald_internal.channel_store AS c WHERE c.id IN ("
        "SELECT g.channel_id FROM herald_internal.channel_grant_store AS g "
        "JOIN pg_catalog.pg_roles AS a ON a.rolname::pg_catalog.text = g.grantee "
        "WHERE NOT pg_catalog.starts_with(g.grantee_role, $1)) FOR UPDATE SKIP LOCKED), "
        "restored AS ("
        "DELETE FROM herald_internal.channel_grant_store AS g USING channel AS c, pg_catalog.pg_roles AS a "
        "WHERE g.channel_id = c.id AND a.rolname::pg_catalog.text = g.grantee "
        "AND NOT pg_catalog.starts_with(g.grantee_role, $1) "
        "RETURNING g.channel_id, g.grantee, g.privilege, $1 || a.oid::pg_catalog.text AS role) "
        "INSERT INTO herald_internal.channel_grant_store (channel_id, grantee, privilege, grantee_role) "
        "SELECT channel_id, grantee, privilege, role FROM restored ON CONFLICT DO NOTHING",
        std::array{pg::Text(here)});
}

// As DROP ROLE would, if it knew of them. An oid is not given again while names are.
uint64 ForgetGrantees(const char *here) {
    return pg::SpiRun(
        "DELETE FROM herald_internal.channel_grant_store AS t USING ("
        "SELECT g.ctid AS place FROM herald_internal.channel_grant_store AS g "
        "WHERE pg_catalog.starts_with(g.grantee_role, $1) AND NOT EXISTS ("
        "SELECT FROM pg_catalog.pg_roles AS a WHERE g.grantee_role = $1 || a.oid::pg_catalog.text) "
        "FOR UPDATE SKIP LOCKED) AS s WHERE t.ctid = s.place",
        std::array{pg::Text(here)});
}

}  // namespace

void RefreshRoleNames() {
    const char *here = pg::OwnIdentities();
    pg::AsOwner([&] {
        uint64 changed = AdoptGrantees(here) + ForgetGrantees(here);
        for (const RoleColumn &at : kColumns) {
            changed += FollowRenames(at, here);
            if (!at.of_subscription && std::strcmp(at.column, "grantee") != 0)
                changed += Adopt(at, here, "SKIP LOCKED");
        }
        if (changed > 0) pg::InvalidateCatalogCaches();
    });
}

void AdoptSubscriptionRoles() {
    const char *here = pg::OwnIdentities();
    pg::AsOwner([&] {
        // By what the subscriptions say: the names here are as old as their rows.
        (void)pg::SpiRun(
            "UPDATE herald_internal.failure_store AS f SET run_as_role = s.role FROM ("
            "SELECT DISTINCT v.id, v.run_as_role AS restored, $1 || a.oid::pg_catalog.text AS role "
            "FROM herald_internal.subscription_store AS v "
            "JOIN pg_catalog.pg_roles AS a ON a.rolname::pg_catalog.text = v.run_as "
            "WHERE NOT pg_catalog.starts_with(v.run_as_role, $1)) AS s "
            "WHERE f.subscription_id = s.id AND f.run_as_role = s.restored",
            std::array{pg::Text(here)});
        for (const RoleColumn &at : kColumns)
            if (at.of_subscription) (void)Adopt(at, here, "");
        pg::InvalidateCatalogCaches();
    });
}

}  // namespace herald
