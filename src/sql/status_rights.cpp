// The row of herald.status() about what others have put on the tables of the extension: rights, triggers, rules.

#include "pg/pg.hpp"

#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/saved_plan.hpp"
#include "pg/spi.hpp"
#include "sql/status_rows.hpp"

namespace herald {

namespace {

// Members with what the script gives them: the owner of the database may read them, for pg_dump, nobody else has a right;
// and one guard that always fires.
constexpr char kForeign[] =
    "WITH extension AS ("
    "  SELECT e.oid, e.extowner, n.oid AS schema FROM pg_catalog.pg_extension AS e"
    "    CROSS JOIN pg_catalog.pg_namespace AS n"
    "   WHERE e.oid OPERATOR(pg_catalog.=) $1 AND n.oid OPERATOR(pg_catalog.=) $2),"
    " member AS MATERIALIZED ("
    "  SELECT c.oid, c.relname, c.relowner, c.relacl, c.relrowsecurity, c.relhassubclass, e.extowner, e.schema"
    "    FROM extension AS e JOIN pg_catalog.pg_depend AS d ON d.refobjid OPERATOR(pg_catalog.=) e.oid"
    "    JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) d.objid"
    "   WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass"
    "     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
    "     AND d.deptype OPERATOR(pg_catalog.=) 'e'"
    "     AND c.relkind OPERATOR(pg_catalog.=) 'r'),"
    " guard AS MATERIALIZED ("
    "  SELECT p.oid FROM pg_catalog.pg_proc AS p JOIN extension AS e ON p.pronamespace OPERATOR(pg_catalog.=) e.schema"
    "   WHERE p.pronargs OPERATOR(pg_catalog.=) 0 AND (p.proname OPERATOR(pg_catalog.=) 'guard_options'"
    "      OR p.proname OPERATOR(pg_catalog.=) 'guard_audit_log'"
    "      OR p.proname OPERATOR(pg_catalog.=) 'guard_replicated'"
    "      OR p.proname OPERATOR(pg_catalog.=) 'guard_ids')),"
    " rights AS ("
    "  SELECT m.relname, a.grantee, a.privilege_type FROM member AS m"
    "    CROSS JOIN LATERAL pg_catalog.aclexplode(m.relacl) AS a WHERE a.grantee OPERATOR(pg_catalog.<>) m.relowner"
    "     AND NOT (a.privilege_type OPERATOR(pg_catalog.=) 'SELECT' AND NOT a.is_grantable"
    "          AND a.grantee OPERATOR(pg_catalog.=) 'pg_database_owner'::pg_catalog.regrole::pg_catalog.oid)"
    "  UNION ALL"
    "  SELECT m.relname, a.grantee, a.privilege_type FROM member AS m"
    "    JOIN pg_catalog.pg_attribute AS t ON t.attrelid OPERATOR(pg_catalog.=) m.oid"
    "    CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) AS a WHERE a.grantee OPERATOR(pg_catalog.<>) m.relowner"
    "  UNION ALL"
    "  SELECT pg_catalog.format('schema %s', n.nspname), a.grantee, a.privilege_type FROM pg_catalog.pg_namespace AS n"
    "    CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a"
    "   WHERE n.oid OPERATOR(pg_catalog.=) ANY (ARRAY[$2, $3]) AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner"
    "     AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE')"
    " SELECT f.name, f.problem, f.unreadable FROM ("
    "  SELECT r.relname::pg_catalog.text AS name, pg_catalog.format('%s for %s',"
    "         pg_catalog.string_agg(DISTINCT r.privilege_type, ', '),"
    "         CASE WHEN r.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'"
    "              ELSE pg_catalog.pg_get_userbyid(r.grantee)::pg_catalog.text END) AS problem, false AS unreadable"
    "    FROM rights AS r GROUP BY r.relname, r.grantee"
    "  UNION ALL"
    "  SELECT m.relname, 'it belongs to another role than the extension', false FROM member AS m"
    "   WHERE m.relowner OPERATOR(pg_catalog.<>) m.extowner"
    "  UNION ALL"
    "  SELECT m.relname, pg_catalog.format('trigger %I', t.tgname), false FROM member AS m"
    "    JOIN pg_catalog.pg_trigger AS t ON t.tgrelid OPERATOR(pg_catalog.=) m.oid"
    "   WHERE t.tgfoid OPERATOR(pg_catalog.<>) ALL (SELECT g.oid FROM guard AS g)"
    "  UNION ALL"
    "  SELECT m.relname, 'its guard is missing or does not always fire', false FROM member AS m"
    "   WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid OPERATOR(pg_catalog.=) m.oid"
    "                        AND t.tgenabled OPERATOR(pg_catalog.=) 'A'"
    "                        AND t.tgfoid OPERATOR(pg_catalog.=) ANY (SELECT g.oid FROM guard AS g))"
    "  UNION ALL"
    "  SELECT m.relname, pg_catalog.format('rule %I', w.rulename), true FROM member AS m"
    "    JOIN pg_catalog.pg_rewrite AS w ON w.ev_class OPERATOR(pg_catalog.=) m.oid"
    "  UNION ALL"
    "  SELECT m.relname, 'row level security', false FROM member AS m WHERE m.relrowsecurity"
    "      OR EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid OPERATOR(pg_catalog.=) m.oid)"
    "  UNION ALL"
    "  SELECT m.relname, 'child tables', true FROM member AS m"
    "   WHERE EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent OPERATOR(pg_catalog.=) m.oid)"
    " ) AS f ORDER BY f.name, f.problem";

constexpr uint64 kListed = 10;

}  // namespace

bool ReportForeignRights(FunctionCallInfo fcinfo) {
    Listed foreign;
    MemoryContext context = CurrentMemoryContext;
    InitListed(&foreign);
    const Oid extension = pg::Tables().extension, schema = pg::Tables().schema, internal = pg::Tables().internal;
    const bool readable = pg::AsOwner([&] {
        static pg::SavedPlan plan = {kForeign};
        const uint64 rows =
            pg::SpiRunSaved(plan, std::array{pg::ObjectId(extension), pg::ObjectId(internal), pg::ObjectId(schema)});
        MemoryContext spi = MemoryContextSwitchTo(context);
        bool all_readable = true;
        for (uint64 row = 0; row < rows; row++) {
            if (row < kListed) AddListed(&foreign, pg::SpiText(row, 1), pg::SpiText(row, 2));
            all_readable = all_readable && !pg::SpiBool(row, 3);
        }
        if (rows > kListed) appendStringInfo(&foreign.text, "; and " UINT64_FORMAT " more", rows - kListed);
        MemoryContextSwitchTo(spi);
        return all_readable;
    });
    ReportListed(fcinfo, "foreign_rights", foreign, "faults",
                 "Nobody but the extension may have anything on its tables: revoke the rights, drop triggers, rules, "
                 "policies and children, ALTER TABLE ... ENABLE ALWAYS TRIGGER guard. Statements that find a foreign "
                 "trigger, rule or child are refused (55000).");
    return readable;
}

}  // namespace herald
