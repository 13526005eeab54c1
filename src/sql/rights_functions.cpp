// Rights that nobody named: ALTER DEFAULT PRIVILEGES gives every new object to roles of an administrator's choice, also
// those that a script of the extension makes. Scripts end by taking them away again.

#include "pg/extension.hpp"
#include "pg/guard.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "lib/stringinfo.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
}

using namespace herald;

namespace {

// An object with rights of its own, as GRANT and REVOKE name it.
struct Target {
    const char *name;
    Oid owner;
    Acl *acl;  // NULL: the default rights
};

Acl *AclOf(pg::SyscacheNumber cache, HeapTuple tuple, AttrNumber column) {
    bool is_null;
    Datum acl = SysCacheGetAttr(cache, tuple, column, &is_null);
    return is_null ? nullptr : DatumGetAclPCopy(acl);
}

bool DescribeRelation(HeapTuple tuple, Target *target) {
    auto *relation = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    const bool is_sequence = relation->relkind == RELKIND_SEQUENCE;
    // Indexes and composite types have none.
    if (!is_sequence && relation->relkind != RELKIND_RELATION && relation->relkind != RELKIND_VIEW) return false;
    target->name =
        psprintf("%s %s", is_sequence ? "SEQUENCE" : "TABLE",
                 quote_qualified_identifier(get_namespace_name(relation->relnamespace), NameStr(relation->relname)));
    target->owner = relation->relowner;
    target->acl = AclOf(RELOID, tuple, Anum_pg_class_relacl);
    return true;
}

bool DescribeFunction(HeapTuple tuple, Target *target) {
    auto *function = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    target->name = psprintf("ROUTINE %s", format_procedure_qualified(function->oid));
    target->owner = function->proowner;
    target->acl = AclOf(PROCOID, tuple, Anum_pg_proc_proacl);
    return true;
}

bool DescribeType(HeapTuple tuple, Target *target) {
    auto *type = reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple));
    // Those of tables and arrays follow them.
    if (type->typcategory == TYPCATEGORY_ARRAY ||
        (OidIsValid(type->typrelid) && get_rel_relkind(type->typrelid) != RELKIND_COMPOSITE_TYPE))
        return false;
    target->name = psprintf("TYPE %s", format_type_be_qualified(type->oid));
    target->owner = type->typowner;
    target->acl = AclOf(TYPEOID, tuple, Anum_pg_type_typacl);
    return true;
}

bool DescribeSchema(HeapTuple tuple, Target *target) {
    auto *schema = reinterpret_cast<Form_pg_namespace>(GETSTRUCT(tuple));
    target->name = psprintf("SCHEMA %s", quote_identifier(NameStr(schema->nspname)));
    target->owner = schema->nspowner;
    target->acl = AclOf(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl);
    return true;
}

bool Describe(Oid catalog, Oid object, Target *target) {
    static constexpr struct {
        Oid catalog;
        pg::SyscacheNumber cache;
        bool (*describe)(HeapTuple, Target *);
    } kinds[] = {
        {RelationRelationId, RELOID, DescribeRelation},
        {ProcedureRelationId, PROCOID, DescribeFunction},
        {TypeRelationId, TYPEOID, DescribeType},
        {NamespaceRelationId, NAMESPACEOID, DescribeSchema},
    };
    for (const auto &kind : kinds) {
        if (kind.catalog != catalog) continue;
        HeapTuple tuple = SearchSysCache1(kind.cache, ObjectIdGetDatum(object));
        if (!HeapTupleIsValid(tuple)) return false;
        const bool found = kind.describe(tuple, target);
        ReleaseSysCache(tuple);
        return found;
    }
    return false;
}

// The script says for each object what PUBLIC has.
void Withdraw(const Target &target) {
    StringInfoData grantees;
    initStringInfo(&grantees);
    const int count = target.acl == nullptr ? 0 : ACL_NUM(target.acl);
    for (int i = 0; i < count; i++) {
        const Oid grantee = ACL_DAT(target.acl)[i].ai_grantee;
        if (grantee == ACL_ID_PUBLIC || grantee == target.owner) continue;
        appendStringInfo(&grantees, "%s%s", grantees.len == 0 ? "" : ", ",
                         quote_identifier(GetUserNameFromId(grantee, false)));
    }
    if (grantees.len > 0) (void)pg::SpiRun(psprintf("REVOKE ALL ON %s FROM %s CASCADE", target.name, grantees.data));
    // They may also have taken away what an owner has.
    (void)pg::SpiRun(
        psprintf("GRANT ALL ON %s TO %s", target.name, quote_identifier(GetUserNameFromId(target.owner, false))));
}

// The members that the running script has made: later a role may have rights that an administrator gave it.
Target *NewMembers(int *count) {
    int room = 64;
    auto *targets = static_cast<Target *>(palloc(sizeof(Target) * 64));
    *count = 0;
    Relation depend = table_open(DependRelationId, AccessShareLock);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(ExtensionRelationId));
    ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(CurrentExtensionObject));
    SysScanDesc scan = systable_beginscan(depend, DependReferenceIndexId, true, nullptr, 2, keys);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        auto *link = reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple));
        if (link->deptype != DEPENDENCY_EXTENSION ||
            !TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
            continue;
        if (*count == room) {
            room *= 2;
            targets = static_cast<Target *>(repalloc(targets, sizeof(Target) * static_cast<Size>(room)));
        }
        if (Describe(link->classid, link->objid, &targets[*count])) (*count)++;
    }
    systable_endscan(scan);
    table_close(depend, AccessShareLock);
    return targets;
}

}  // namespace

HERALD_FUNCTION(withdraw_default_rights) {
    if (!creating_extension)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("only a script of an extension can withdraw default rights")));
    pg::SpiBegin();
    int count;
    const Target *targets = NewMembers(&count);
    for (int i = 0; i < count; i++) Withdraw(targets[i]);
    pg::SpiEnd();
    PG_RETURN_VOID();
}
