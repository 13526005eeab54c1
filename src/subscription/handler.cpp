// See handler.hpp. A handler is looked up by its exact argument type, not by the parser's overload
// rules: a function that takes json, text or one argument more must not be picked by chance.

#include "pg/pg.hpp"

#include "pg/extension.hpp"
#include "subscription/handler.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"
}

namespace herald {

namespace {

constexpr std::string_view kTaskSuffix = "(herald.task)";
constexpr std::string_view kPayloadSuffix = "(jsonb)";

enum class Signature { kAny, kTask, kPayload };

Oid ArgumentType(HandlerKind kind) { return kind == HandlerKind::kTask ? pg::Tables().task_type : JSONBOID; }

// The function schema.name with this argument type, whatever it is (function, procedure, aggregate).
Oid FindFunction(const char *name, Oid schema, HandlerKind kind) {
    Oid argument = ArgumentType(kind);
    if (!OidIsValid(argument)) return InvalidOid;
    return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
                           PointerGetDatum(buildoidvector(&argument, 1)), ObjectIdGetDatum(schema));
}

bool FindInSchema(const char *name, Oid schema, Signature signature, Oid *function, HandlerKind *kind) {
    if (signature != Signature::kPayload) {
        *kind = HandlerKind::kTask;
        *function = FindFunction(name, schema, *kind);
        if (OidIsValid(*function)) return true;
    }
    if (signature != Signature::kTask) {
        *kind = HandlerKind::kPayload;
        *function = FindFunction(name, schema, *kind);
        if (OidIsValid(*function)) return true;
    }
    return false;
}

// Where the argument list starts: the first parenthesis outside of double quotes, or the end.
const char *FindArguments(const char *written) {
    bool quoted = false;
    for (const char *at = written; *at != '\0'; at++) {
        if (*at == '"') quoted = !quoted;
        if (*at == '(' && !quoted) return at;
    }
    return written + std::strlen(written);
}

List *ParseName(const char *start, std::size_t length) {
    return textToQualifiedNameList(cstring_to_text_with_len(start, static_cast<int>(length)));
}

int HintSignatures(const char *name) {
    return errhint("A handler takes one argument, the task or its payload: %s(herald.task) or %s(jsonb).", name, name);
}

[[noreturn]] void ReportBadSignature(const char *written, const char *name) {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                    errmsg("\"%s\" does not have the arguments of a handler", written), HintSignatures(name)));
    pg_unreachable();
}

[[noreturn]] void ReportNoFunction(const char *name, Signature signature) {
    if (signature == Signature::kAny)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("no function \"%s\" takes one argument of type herald.task or jsonb", name),
                        HintSignatures(name)));
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                    errmsg("function %s%s does not exist", name,
                           signature == Signature::kTask ? kTaskSuffix.data() : kPayloadSuffix.data())));
    pg_unreachable();
}

// What stands between the parentheses, as one of the two allowed signatures.
Signature ParseSignature(const char *written, const char *arguments, const char *name) {
    const char *end = arguments + std::strlen(arguments);
    while (end > arguments && isspace(static_cast<unsigned char>(end[-1]))) end--;
    if (end - arguments < 3 || end[-1] != ')') ReportBadSignature(written, name);
    const char *inner = arguments + 1;
    for (const char *at = inner; at < end - 1; at++)
        if (*at == ',' || *at == '(' || *at == ')' || *at == '[') ReportBadSignature(written, name);
    while (inner < end - 1 && isspace(static_cast<unsigned char>(*inner))) inner++;
    if (inner == end - 1) ReportBadSignature(written, name);

    List *type = ParseName(inner, static_cast<std::size_t>(end - 1 - inner));
    const char *schema = list_length(type) == 2 ? strVal(linitial(type)) : nullptr;
    const char *type_name = strVal(llast(type));
    if (list_length(type) <= 2) {
        if (std::strcmp(type_name, "task") == 0 && (schema == nullptr || std::strcmp(schema, "herald") == 0))
            return Signature::kTask;
        if (std::strcmp(type_name, "jsonb") == 0 && (schema == nullptr || std::strcmp(schema, "pg_catalog") == 0))
            return Signature::kPayload;
    }
    ReportBadSignature(written, name);
}

void RequirePlainFunction(Oid function, const char *name) {
    if (get_func_prokind(function) != PROKIND_FUNCTION)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("handler \"%s\" is not a plain function", name),
                        errhint("Procedures, aggregates and window functions can't be handlers; "
                                "create a function that calls them.")));
}

}  // namespace

char *CheckHandler(const char *written, Oid role, const char *role_name, Oid *found) {
    const char *arguments = FindArguments(written);
    const std::size_t length = static_cast<std::size_t>(arguments - written);
    char *name = pnstrdup(written, length);
    List *names = ParseName(written, length);
    Signature signature = *arguments == '\0' ? Signature::kAny : ParseSignature(written, arguments, name);

    char *schema_name;
    char *function_name;
    DeconstructQualifiedName(names, &schema_name, &function_name);

    Oid function = InvalidOid;
    HandlerKind kind = HandlerKind::kTask;
    Oid schema = InvalidOid;
    if (schema_name != nullptr) {
        schema = LookupExplicitNamespace(schema_name, true);
        if (OidIsValid(schema)) FindInSchema(function_name, schema, signature, &function, &kind);
    } else {
        ListCell *cell;
        List *path = fetch_search_path(true);
        foreach (cell, path) {
            schema = lfirst_oid(cell);
            if (isTempNamespace(schema)) continue;  // as function calls skip it
            if (FindInSchema(function_name, schema, signature, &function, &kind)) break;
        }
    }
    if (!OidIsValid(function)) ReportNoFunction(name, signature);
    RequirePlainFunction(function, name);
    if (isAnyTempNamespace(schema))
        ereport(ERROR, (errcode(ERRCODE_INVALID_SCHEMA_NAME), errmsg("handler \"%s\" is a temporary function", name),
                        errhint("Create it in a schema that workers can see too.")));

    char *stored = psprintf("%s%s", quote_qualified_identifier(get_namespace_name(schema), function_name),
                            kind == HandlerKind::kTask ? kTaskSuffix.data() : kPayloadSuffix.data());
    if (!MayExecuteHandler(function, GetUserId()))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for function %s", stored)));
    if (!MayExecuteHandler(function, role))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("role \"%s\" may not execute function %s", role_name, stored),
                        errhint("Grant it EXECUTE on the function and USAGE on its schema, or choose "
                                "another role by run_as.")));
    *found = function;
    return stored;
}

HandlerKind KindOfHandler(const char *stored) {
    return std::string_view(stored).ends_with(kPayloadSuffix) ? HandlerKind::kPayload : HandlerKind::kTask;
}

Oid ResolveHandler(const char *stored, HandlerKind *kind) {
    const HandlerKind stored_kind = KindOfHandler(stored);
    if (kind != nullptr) *kind = stored_kind;
    const std::size_t suffix = stored_kind == HandlerKind::kTask ? kTaskSuffix.size() : kPayloadSuffix.size();
    const std::size_t length = std::strlen(stored);
    if (length <= suffix) return InvalidOid;

    List *names = ParseName(stored, length - suffix);
    if (list_length(names) != 2) return InvalidOid;
    Oid schema = get_namespace_oid(strVal(linitial(names)), true);
    if (!OidIsValid(schema)) return InvalidOid;
    Oid function = FindFunction(strVal(lsecond(names)), schema, stored_kind);
    if (!OidIsValid(function) || get_func_prokind(function) != PROKIND_FUNCTION) return InvalidOid;
    return function;
}

bool MayExecuteHandler(Oid function, Oid role) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) return false;
    Oid schema = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->pronamespace;
    ReleaseSysCache(tuple);
    return pg::HasFunctionPrivilege(function, role) && pg::HasSchemaUsage(schema, role);
}

Oid OwnerOfFunction(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) return InvalidOid;
    const Oid owner = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->proowner;
    ReleaseSysCache(tuple);
    return owner;
}

}  // namespace herald
