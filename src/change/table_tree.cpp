// See table_tree.hpp.

#include "change/table_tree.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace herald {

Oid *LockTree(Oid root, int lock_mode, int *count) {
    if (lock_mode != NoLock) {
        LockRelationOid(root, lock_mode);
        if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(root)))
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", root)));
    }
    List *members = find_all_inheritors(root, lock_mode, nullptr);
    *count = list_length(members);
    Oid *tree = static_cast<Oid *>(palloc(sizeof(Oid) * static_cast<Size>(*count)));
    ListCell *cell;
    int i = 0;
    foreach (cell, members) tree[i++] = lfirst_oid(cell);
    return tree;
}

bool ReadNames(Oid relation, const char **schema, const char **name) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return false;
    const FormData_pg_class *form = reinterpret_cast<FormData_pg_class *>(GETSTRUCT(tuple));
    const char *schema_found = get_namespace_name(form->relnamespace);
    const char *name_found = pstrdup(NameStr(form->relname));
    ReleaseSysCache(tuple);
    if (schema_found == nullptr) return false;
    *schema = schema_found;
    *name = name_found;
    return true;
}

Oid *ParentsOf(Oid relation, int *count) {
    ScanKeyData key;
    int room = 4;
    Oid *parents = static_cast<Oid *>(palloc(sizeof(Oid) * 4));
    *count = 0;
    ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
    Relation inherits = table_open(InheritsRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, nullptr, 1, &key);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        if (*count == room) {
            room *= 2;
            parents = static_cast<Oid *>(repalloc(parents, sizeof(Oid) * static_cast<Size>(room)));
        }
        parents[(*count)++] = reinterpret_cast<FormData_pg_inherits *>(GETSTRUCT(tuple))->inhparent;
    }
    systable_endscan(scan);
    table_close(inherits, AccessShareLock);
    return parents;
}

const char *ParentName(Oid relation) {
    int count;
    const Oid *parents = ParentsOf(relation, &count);
    return count == 0 ? nullptr : get_rel_name(parents[0]);
}

bool IsAbove(Oid ancestor, Oid relation) {
    int count;
    const Oid *parents = ParentsOf(relation, &count);
    for (int i = 0; i < count; i++)
        if (parents[i] == ancestor || IsAbove(ancestor, parents[i])) return true;
    return false;
}

}  // namespace herald
