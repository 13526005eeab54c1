// See stats_file.hpp.
//
// The file: a header that says what it is and how large its parts are, the snapshots of channels, those of
// subscriptions, and a checksum of all that. It is read twice, so that nothing of a damaged one counts,
// and removed before the server starts its work: a crash must not bring old figures back.

#include "stats/stats_file.hpp"

#include "pg/pg.hpp"
#include "stats/channel_counters.hpp"
#include "stats/subscription_counters.hpp"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/hashfn.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
}

#include <unistd.h>

namespace herald {

namespace {

constexpr char kFile[] = PGSTAT_STAT_PERMANENT_DIRECTORY "/pg_herald.stat";
constexpr char kTemporaryFile[] = PGSTAT_STAT_PERMANENT_DIRECTORY "/pg_herald.tmp";

// All but the counts tells this build's files from others.
struct Header {
    char magic[8];
    uint32 version;  // of this format
    uint32 server_major;
    uint64 system_identifier;
    uint32 channel_size;
    uint32 subscription_size;
    uint32 channel_count;
    uint32 subscription_count;
};

constexpr Size kSameSize = offsetof(Header, channel_count);

// A file with its checksum as far as it was read or written.
struct File {
    FILE *stream;
    uint64 checksum;
};

Header MakeHeader() {
    Header header;
    std::memset(&header, 0, sizeof(header));
    std::memcpy(header.magic, "pgherald", sizeof(header.magic));
    header.version = 1;
    header.server_major = PG_VERSION_NUM / 10000;
    header.system_identifier = GetSystemIdentifier();
    header.channel_size = sizeof(ChannelCounterSnapshot);
    header.subscription_size = sizeof(SubscriptionCounterSnapshot);
    return header;
}

void AddToChecksum(File *file, const void *data, Size size) {
    file->checksum =
        hash_bytes_extended(static_cast<const unsigned char *>(data), static_cast<int>(size), file->checksum);
}

template <typename Part>
bool WritePart(File *file, const Part &part) {
    AddToChecksum(file, &part, sizeof(part));
    return fwrite(&part, sizeof(part), 1, file->stream) == 1;
}

template <typename Part>
bool ReadPart(File *file, Part *part) {
    if (fread(part, sizeof(*part), 1, file->stream) != 1) return false;
    AddToChecksum(file, part, sizeof(*part));
    return true;
}

bool WriteAll(File *file) {
    ChannelCounterSnapshot channel;
    SubscriptionCounterSnapshot subscription;
    Header header = MakeHeader();

    // Bytes between the fields count in the checksum as well.
    std::memset(static_cast<void *>(&channel), 0, sizeof(channel));
    std::memset(static_cast<void *>(&subscription), 0, sizeof(subscription));
    for (int number = 0; number <= ChannelCounterCapacity(); number++)
        if (ReadChannelCounters(number, &channel)) header.channel_count++;
    for (int number = 0; number < ReadSubscriptionPlaces().capacity; number++)
        if (ReadSubscriptionCounters(number, &subscription)) header.subscription_count++;

    if (!WritePart(file, header)) return false;
    for (int number = 0; number <= ChannelCounterCapacity(); number++)
        if (ReadChannelCounters(number, &channel) && !WritePart(file, channel)) return false;
    for (int number = 0; number < ReadSubscriptionPlaces().capacity; number++)
        if (ReadSubscriptionCounters(number, &subscription) && !WritePart(file, subscription)) return false;
    return fwrite(&file->checksum, sizeof(file->checksum), 1, file->stream) == 1;
}

// Either checks a file, or adds what stands in one that was checked.
bool ReadAll(File *file, bool add) {
    const Header expected = MakeHeader();
    Header header;
    ChannelCounterSnapshot channel;
    SubscriptionCounterSnapshot subscription;
    uint64 checksum;

    file->checksum = 0;
    if (!ReadPart(file, &header) || std::memcmp(&header, &expected, kSameSize) != 0) return false;
    for (uint32 i = 0; i < header.channel_count; i++) {
        if (!ReadPart(file, &channel)) return false;
        if (add) AddChannelCounters(channel);
    }
    for (uint32 i = 0; i < header.subscription_count; i++) {
        if (!ReadPart(file, &subscription)) return false;
        if (add) AddSubscriptionCounters(subscription);
    }
    return fread(&checksum, sizeof(checksum), 1, file->stream) == 1 && checksum == file->checksum &&
           fgetc(file->stream) == EOF;
}

void Load() {
    File file = {AllocateFile(kFile, PG_BINARY_R), 0};

    if (file.stream == nullptr) {
        if (errno != ENOENT) ereport(LOG, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", kFile)));
        return;
    }
    if (ReadAll(&file, false) && fseek(file.stream, 0, SEEK_SET) == 0)
        (void)ReadAll(&file, true);
    else
        ereport(LOG, (errcode(ERRCODE_DATA_CORRUPTED),
                      errmsg("ignoring file \"%s\": it is damaged, or of another version or server", kFile),
                      errdetail("Statistics of channels and subscriptions start anew.")));
    FreeFile(file.stream);
    if (unlink(kFile) != 0)
        ereport(LOG, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", kFile)));
}

// An immediate stop ends with code 0, too, but leaves no checkpoint; and processes killed by it may have
// held our locks, which this process cannot wait for.
bool WasShutDown() {
    bool intact;
    ControlFileData *control = get_controlfile(DataDir, &intact);
    const bool shut_down = intact && (control->state == DB_SHUTDOWNED || control->state == DB_SHUTDOWNED_IN_RECOVERY);
    pfree(control);
    return shut_down;
}

void Save(int code, Datum) {
    if (code != 0 || !WasShutDown()) return;
    File file = {AllocateFile(kTemporaryFile, PG_BINARY_W), 0};
    bool written = file.stream != nullptr && WriteAll(&file);
    // The last bytes are written when it is closed.
    if (file.stream != nullptr && FreeFile(file.stream) != 0) written = false;
    if (!written) {
        ereport(LOG, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", kTemporaryFile)));
        (void)unlink(kTemporaryFile);
        return;
    }
    (void)durable_rename(kTemporaryFile, kFile, LOG);
}

}  // namespace

void KeepStatistics() {
    if (IsUnderPostmaster) return;
    on_shmem_exit(Save, static_cast<Datum>(0));
    Load();
}

}  // namespace herald
