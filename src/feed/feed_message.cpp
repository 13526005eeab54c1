// See feed_message.hpp. Members of an object come in the order in which jsonb has them: shorter names first, then
// by bytes.

#include "feed/feed_message.hpp"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/fmgrprotos.h"
}

namespace herald {

namespace {

// An object's value as it lies in it: copied, it needs no look inside.
struct RawValue {
    JEntry type;
    const char *data;
    uint32 length;
};

int PairsIn(const Jsonb *object) { return object == nullptr ? 0 : static_cast<int>(JB_ROOT_COUNT(object)); }

const char *DataOf(const Jsonb *object) {
    return reinterpret_cast<const char *>(&object->root.children[2 * PairsIn(object)]);
}

std::string_view NameAt(const Jsonb *object, int pair) {
    return {DataOf(object) + getJsonbOffset(&object->root, pair), getJsonbLength(&object->root, pair)};
}

RawValue ValueAt(const Jsonb *object, int pair) {
    const int child = pair + PairsIn(object);
    const JEntry type = object->root.children[child] & JENTRY_TYPEMASK;
    uint32 offset = getJsonbOffset(&object->root, child);
    uint32 length = getJsonbLength(&object->root, child);
    if (type == JENTRY_ISNUMERIC || type == JENTRY_ISCONTAINER) {
        const uint32 padding = static_cast<uint32>(INTALIGN(offset)) - offset;
        offset += padding;
        length -= padding;
    }
    return {type, DataOf(object) + offset, length};
}

JEntry AppendRaw(JsonBuffer *buffer, const RawValue &value) {
    uint32 padding = 0;
    if (value.type == JENTRY_ISNUMERIC || value.type == JENTRY_ISCONTAINER) padding = PadJson(buffer);
    return value.type | ((AppendString(buffer, value.data, value.length) & JENTRY_OFFLENMASK) + padding);
}

JEntry AppendText(JsonBuffer *buffer, std::string_view text) { return AppendString(buffer, text.data(), text.size()); }

bool SameRaw(const RawValue &a, const RawValue &b) {
    return a.type == b.type && a.length == b.length && std::memcmp(a.data, b.data, a.length) == 0;
}

int FindPair(const Jsonb *object, std::string_view name) {
    for (int i = 0; i < PairsIn(object); i++)
        if (NameAt(object, i) == name) return i;
    return -1;
}

// Some pairs of an image.
struct Selection {
    const Jsonb *image;
    bool *chosen;  // by pair
    int count;
};

Selection Select(const Jsonb *image) {
    Selection selection = {image, nullptr, PairsIn(image)};
    selection.chosen = static_cast<bool *>(palloc(sizeof(bool) * static_cast<Size>(selection.count + 1)));
    std::memset(selection.chosen, true, static_cast<Size>(selection.count));
    return selection;
}

void Deselect(Selection *selection, int pair) {
    if (pair < 0 || !selection->chosen[pair]) return;
    selection->chosen[pair] = false;
    selection->count--;
}

JEntry AppendSelection(JsonBuffer *buffer, const Selection &selection) {
    JsonStart start = BeginContainer(buffer, JB_FOBJECT, static_cast<uint32>(selection.count));
    const int pairs = PairsIn(selection.image);
    for (int i = 0; i < pairs; i++)
        if (selection.chosen[i]) SetEntry(buffer, &start, AppendText(buffer, NameAt(selection.image, i)));
    for (int i = 0; i < pairs; i++)
        if (selection.chosen[i]) SetEntry(buffer, &start, AppendRaw(buffer, ValueAt(selection.image, i)));
    return EndContainer(buffer, start);
}

// The parts of a message that may have to be left out.
struct Parts {
    bool has_old;  // "old": before the change
    bool has_row;  // "row"
    bool has_changed;
    Selection old;
    Selection now;  // "row" or "changed"
    std::string_view *omitted;
    int omitted_count;
};

Parts PartsOf(const Feed &feed, const NotedRow &row) {
    Parts parts{};
    const RowState &state = row.state;
    if (feed.message == FeedMessage::kRow) {
        parts.has_row = true;
        parts.now = Select(state.change == kDeleted ? state.old : state.now);
    } else if (feed.message == FeedMessage::kDiff) {
        parts.has_old = state.change != kInserted;
        parts.has_changed = state.change != kDeleted;
        parts.old = Select(parts.has_old ? state.old : nullptr);
        parts.now = Select(parts.has_changed ? state.now : nullptr);
        for (int i = 0; state.change == kUpdated && i < PairsIn(state.now); i++) {
            const int same = FindPair(state.old, NameAt(state.now, i));
            if (same < 0 || !SameRaw(ValueAt(state.old, same), ValueAt(state.now, i))) continue;
            Deselect(&parts.now, i);
            Deselect(&parts.old, same);
        }
    }
    const Size names = static_cast<Size>(PairsIn(parts.old.image) + PairsIn(parts.now.image) + 1);
    parts.omitted = static_cast<std::string_view *>(palloc(sizeof(std::string_view) * names));
    return parts;
}

// Entries and padding of a pair, at most.
constexpr uint32 kPairOverhead = 2 * sizeof(JEntry) + 2 * sizeof(int32);

uint32 BytesOfPair(const Selection &selection, int pair) {
    if (pair < 0 || !selection.chosen[pair]) return 0;
    return ValueAt(selection.image, pair).length + static_cast<uint32>(NameAt(selection.image, pair).size()) +
           kPairOverhead;
}

// Leaves the largest column out. Returns how many bytes that saves at most; 0: there is none left.
uint32 OmitLargest(Parts *parts) {
    uint32 most = 0;
    std::string_view name;
    bool found = false;
    for (Selection *selection : {&parts->now, &parts->old}) {
        for (int i = 0; i < PairsIn(selection->image); i++) {
            if (!selection->chosen[i]) continue;
            const uint32 length = ValueAt(selection->image, i).length;
            if (found && length <= most) continue;
            found = true;
            most = length;
            name = NameAt(selection->image, i);
        }
    }
    if (!found) return 0;
    uint32 saved = 0;
    for (Selection *selection : {&parts->now, &parts->old}) {
        if (selection->image == nullptr) continue;
        const int pair = FindPair(selection->image, name);
        saved += BytesOfPair(*selection, pair);
        Deselect(selection, pair);
    }
    int place = parts->omitted_count++;
    for (; place > 0 && parts->omitted[place - 1] > name; place--) parts->omitted[place] = parts->omitted[place - 1];
    parts->omitted[place] = name;
    return saved;
}

JEntry AppendOmittedNames(JsonBuffer *buffer, const Parts &parts) {
    JsonStart start = BeginContainer(buffer, JB_FARRAY, static_cast<uint32>(parts.omitted_count));
    for (int i = 0; i < parts.omitted_count; i++) SetEntry(buffer, &start, AppendText(buffer, parts.omitted[i]));
    return EndContainer(buffer, start);
}

Jsonb *Write(JsonBuffer *buffer, const FeedNames &names, const NotedRow &row, const Parts &parts, bool only_key) {
    const bool has_old = parts.has_old && !only_key;
    const bool has_row = parts.has_row && !only_key;
    const bool has_changed = parts.has_changed && !only_key;
    const bool audit = parts.omitted_count > 0 && names.audited;
    const bool omitted = parts.omitted_count > 0 && !only_key;
    ResetJsonBuffer(buffer);
    JsonStart start = BeginContainer(buffer, JB_FOBJECT, 3u + has_old + has_row + has_changed + audit + omitted);
    SetEntry(buffer, &start, AppendText(buffer, "op"));
    SetEntry(buffer, &start, AppendText(buffer, "key"));
    if (has_old) SetEntry(buffer, &start, AppendText(buffer, "old"));
    if (has_row) SetEntry(buffer, &start, AppendText(buffer, "row"));
    if (audit) SetEntry(buffer, &start, AppendText(buffer, "audit"));
    SetEntry(buffer, &start, AppendText(buffer, "table"));
    if (has_changed) SetEntry(buffer, &start, AppendText(buffer, "changed"));
    if (omitted) SetEntry(buffer, &start, AppendText(buffer, "omitted"));
    SetEntry(buffer, &start, AppendText(buffer, NameOfOperation(row.state.change)));
    SetEntry(buffer, &start, row.key == nullptr ? AppendNull() : AppendJsonb(buffer, row.key));
    if (has_old) SetEntry(buffer, &start, AppendSelection(buffer, parts.old));
    if (has_row) SetEntry(buffer, &start, AppendSelection(buffer, parts.now));
    if (audit) SetEntry(buffer, &start, AppendBool(true));
    SetEntry(buffer, &start, AppendText(buffer, names.both));
    if (has_changed) SetEntry(buffer, &start, AppendSelection(buffer, parts.now));
    if (omitted) SetEntry(buffer, &start, AppendOmittedNames(buffer, parts));
    (void)EndContainer(buffer, start);
    return FinishJson(buffer);
}

void AppendValueText(StringInfo text, const RawValue &value) {
    switch (value.type) {
        case JENTRY_ISSTRING:
            appendBinaryStringInfo(text, value.data, static_cast<int>(value.length));
            break;
        case JENTRY_ISNUMERIC:
            appendStringInfoString(text,
                                   DatumGetCString(DirectFunctionCall1(numeric_out, PointerGetDatum(value.data))));
            break;
        case JENTRY_ISBOOL_TRUE:
            appendStringInfoString(text, "true");
            break;
        case JENTRY_ISBOOL_FALSE:
            appendStringInfoString(text, "false");
            break;
        case JENTRY_ISCONTAINER: {
            // Its data may not be aligned as JsonbToCString expects it.
            char *copy = static_cast<char *>(palloc(value.length));
            std::memcpy(copy, value.data, value.length);
            (void)JsonbToCString(text, reinterpret_cast<JsonbContainer *>(copy), static_cast<int>(value.length));
            break;
        }
        default:  // NULL
            break;
    }
}

}  // namespace

Jsonb *RowMessage(JsonBuffer *buffer, const Feed &feed, const FeedNames &names, const NotedRow &row, uint32 limit) {
    Parts parts = PartsOf(feed, row);
    for (;;) {
        Jsonb *message = Write(buffer, names, row, parts, false);
        if (VARSIZE(message) - VARHDRSZ <= limit) return message;
        // As many as it takes at least, before it is written again: there may be a thousand large ones.
        const int64 excess = static_cast<int64>(VARSIZE(message) - VARHDRSZ) - limit;
        uint32 saved = OmitLargest(&parts);
        for (int64 total = saved; saved > 0 && total < excess; total += saved) {
            CHECK_FOR_INTERRUPTS();
            saved = OmitLargest(&parts);
        }
        if (saved == 0) break;
    }
    Jsonb *message = Write(buffer, names, row, parts, true);
    return VARSIZE(message) - VARHDRSZ <= limit ? message : nullptr;
}

Jsonb *BulkMessage(JsonBuffer *buffer, const Feed &feed, const FeedNames &names, const RowCounts &counts) {
    struct Count {
        std::string_view name;
        uint8 operation;
        uint64 rows;
    };
    const Count all[] = {{"deleted", kDeleted, counts.deleted},
                         {"updated", kUpdated, counts.updated},
                         {"inserted", kInserted, counts.inserted}};
    uint64 rows = 0;
    uint32 members = 3;
    for (const Count &count : all) {
        if ((feed.operations & count.operation) == 0) continue;
        rows += count.rows;
        members++;
    }
    ResetJsonBuffer(buffer);
    JsonStart start = BeginContainer(buffer, JB_FOBJECT, members);
    for (std::string_view name : {"op", "rows", "table"}) SetEntry(buffer, &start, AppendText(buffer, name));
    for (const Count &count : all)
        if ((feed.operations & count.operation) != 0) SetEntry(buffer, &start, AppendText(buffer, count.name));
    SetEntry(buffer, &start, AppendText(buffer, "bulk"));
    SetEntry(buffer, &start, AppendInteger(buffer, static_cast<int64>(rows)));
    SetEntry(buffer, &start, AppendText(buffer, names.both));
    for (const Count &count : all)
        if ((feed.operations & count.operation) != 0)
            SetEntry(buffer, &start, AppendInteger(buffer, static_cast<int64>(count.rows)));
    (void)EndContainer(buffer, start);
    return rows == 0 ? nullptr : FinishJson(buffer);
}

Jsonb *EventMessage(JsonBuffer *buffer, const FeedNames &names, const char *event, const char *partition) {
    ResetJsonBuffer(buffer);
    JsonStart start = BeginContainer(buffer, JB_FOBJECT, partition == nullptr ? 2 : 3);
    SetEntry(buffer, &start, AppendText(buffer, "op"));
    SetEntry(buffer, &start, AppendText(buffer, "table"));
    if (partition != nullptr) SetEntry(buffer, &start, AppendText(buffer, "partition"));
    SetEntry(buffer, &start, AppendText(buffer, event));
    SetEntry(buffer, &start, AppendText(buffer, names.both));
    if (partition != nullptr) SetEntry(buffer, &start, AppendText(buffer, partition));
    (void)EndContainer(buffer, start);
    return FinishJson(buffer);
}

char *TemplateText(const Feed &feed, const FeedNames &names, const NotedRow &row, bool old) {
    StringInfoData text;
    const Jsonb *image = old ? row.state.old : row.state.now;
    initStringInfo(&text);
    for (int i = 0; i < feed.piece_count; i++) {
        const TemplatePiece &piece = feed.pieces[i];
        switch (piece.kind) {
            case PieceKind::kText:
                appendStringInfoString(&text, piece.text);
                break;
            case PieceKind::kOperation:
                appendStringInfoString(&text, NameOfOperation(row.state.change));
                break;
            case PieceKind::kTable:
                appendStringInfoString(&text, names.table);
                break;
            case PieceKind::kSchema:
                appendStringInfoString(&text, names.schema);
                break;
            case PieceKind::kColumn: {
                // Without an image the key has it all.
                const Jsonb *from = row.state.old == nullptr && row.state.now == nullptr ? row.key : image;
                if (from == nullptr) return nullptr;
                const int pair = FindPair(from, piece.text);
                if (pair < 0) return nullptr;
                AppendValueText(&text, ValueAt(from, pair));
                break;
            }
        }
    }
    return text.data;
}

bool IsUnchanged(const Feed &feed, const NotedRow &row) {
    const RowState &state = row.state;
    // The images for a template are not of all columns that are watched.
    return state.change == kNoChange ||
           (feed.message != FeedMessage::kTemplate && state.change == kUpdated && state.old != nullptr &&
            state.now != nullptr && VARSIZE(state.old) == VARSIZE(state.now) &&
            std::memcmp(state.old, state.now, VARSIZE(state.now)) == 0);
}

}  // namespace herald
