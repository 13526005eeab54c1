// What converting a relation's rows takes, found out once per session: the live columns in the order in which
// jsonb keeps keys, how each becomes JSON, and which of them identify a row.
//
// A shape of ShapeOf() is good until the end of the transaction, even where the relation or a type of its
// columns changes meanwhile: then the next look-up makes a new one.

#pragma once

#include "change/json_value.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "access/attnum.h"
#include "utils/relcache.h"
}

namespace herald {

struct ShapeColumn {
    AttrNumber number;  // in the relation, from 1
    bool by_value;
    int16 length;
    int16 name_length;
    char name[NAMEDATALEN];
    const Conversion *conversion;
};

// Columns of a relation or of a composite type; dropped ones are none.
struct RowShape {
    TupleDesc desc;  // a copy
    int column_count;
    ShapeColumn *columns;  // in jsonb's order of keys
    int16 *all;            // 0, 1, ... column_count - 1
    int16 *index_of;       // by attribute number - 1: the index in `columns`, or -1
};

struct TableShape {
    Oid relation;
    RowShape row;
    OutputNeeds needs;  // of its columns' types
    // Indexes in row.columns, in that order, of the primary key, or else of the replica identity's index.
    int key_count;
    int16 *key;
};

// The shape of an open relation. Looks into the catalogs where it isn't cached.
const TableShape *ShapeOf(Relation relation);

// What identifies a row: the primary key, else the index of the replica identity. Returns how many columns. Takes no lock
// on the relation, which somebody may have for long.
int FindKeyColumns(Oid relation, AttrNumber *columns);

// The column of that name, or -1.
int FindColumn(const RowShape &row, const char *name);

// The order of keys in jsonb.
int CompareKeyNames(const char *a, int a_length, const char *b, int b_length);

// For conversions: shapes that live as long as the builder's context.
const RowShape *MakeRowShape(ShapeBuilder *builder, TupleDesc desc);
const RowShape *MakeCompositeShape(ShapeBuilder *builder, Oid type);

}  // namespace herald
