// What the pieces seen last were encoded to, in bounded memory. One cache serves one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "large.hpp"
#include "vocabulary.hpp"

namespace groundup {

constexpr size_t kPacked = 15;  // bytes of a piece that fit into a key

// What a key keeps of 16 bytes, by the piece's size: a table, since a branch on the size would be guessed wrongly.
struct KeyMasks {
    uint64_t low[kPacked + 1], high[kPacked + 1];
    constexpr KeyMasks() : low(), high() {
        for (size_t size = 0; size <= kPacked; ++size) {
            low[size] = size < 8 ? (uint64_t{1} << 8 * size) - 1 : ~uint64_t{0};
            high[size] = size < 9 ? 0 : (uint64_t{1} << 8 * (size - 8)) - 1;
        }
    }
};
inline constexpr KeyMasks kKeyMasks;

// A piece of at most kPacked bytes, its length in the highest byte.
struct alignas(16) Key {
    uint64_t low, high;

    // Reads 16 bytes at `p`.
    static Key load(const uint8_t* p, size_t size) {
        return {load64(p) & kKeyMasks.low[size],
                (load64(p + 8) & kKeyMasks.high[size]) | static_cast<uint64_t>(size) << 56};
    }
    // Reads no byte beyond the piece.
    static Key load_exactly(const uint8_t* p, size_t size) {
        uint8_t padded[16] = {};
        std::memcpy(padded, p, size);
        return load(padded, size);
    }
    // Of no piece.
    static Key none() { return {0, ~uint64_t{0}}; }

    uint64_t hash() const { return mix(low, high); }
    size_t size() const { return high >> 56; }
    bool operator==(const Key& other) const { return ((low ^ other.low) | (high ^ other.high)) == 0; }
};

// The hash of a piece of any length: of a short one, its key's.
inline uint64_t hash_piece(const uint8_t* piece, size_t size) {
    return size <= kPacked ? Key::load_exactly(piece, size).hash() : hash_bytes(piece, size);
}

// What a piece is encoded to.
struct Ids {
    const uint32_t* ids;
    uint32_t count;
};

class PieceCache {
public:
    static constexpr uint32_t kInline = 3;

    struct alignas(32) Row {
        Key key;
        uint32_t ids[kInline];  // if there are more of them: ids[0] is where they are in many_ids_
        uint32_t count;         // 0: the row is empty
    };
    struct alignas(64) Bucket {
        Row rows[2];
    };
    struct LongRow {  // of a piece of kPacked + 1 .. kLongest bytes
        uint64_t hash;
        uint32_t place;  // in the store: the ids, then the piece
        uint16_t size, count;
    };

    PieceCache() {
        set_buckets(kFirstBuckets);
        set_long_rows(kFirstLongRows);
    }

    const Bucket* bucket(uint64_t hash) const { return &buckets_[hash >> shift_]; }
    const Bucket* neighbour(uint64_t hash) const { return &buckets_[hash >> shift_ ^ 1]; }

    // The row of a piece, in its bucket or in that one's neighbour; nullptr if it is not there.
    const Row* find(const Key& key, uint64_t hash) const {
        const size_t own = hash >> shift_;
        for (const Row& row : buckets_[own].rows)
            if (row.key == key) return &row;
        if (!overflowed_[own]) return nullptr;
        for (const Row& row : buckets_[own ^ 1].rows)
            if (row.key == key) return &row;
        return nullptr;
    }

    // Whether the pieces of the next bytes are worth looking up and keeping. Where most of the text was unknown of late,
    // as in base64, waiting for memory costs more than working it out; a sample is still looked up, so that a change
    // of the text is noticed.
    bool is_worth_asking(size_t num_bytes) {
        if (asked_bytes_ >= (is_strange_ ? kStrangeWindow : kWindow)) {
            is_strange_ = buckets_.size() >= kManyBuckets && missed_bytes_ * 2 >= asked_bytes_;
            missed_bytes_ = asked_bytes_ = 0;
        }
        if (is_strange_ && ++num_strange_ % kSample) return false;
        asked_bytes_ += num_bytes;
        return true;
    }

    // Where a row's ids are until something is inserted; at least four can be read.
    Ids ids(const Row& row) const {
        return {row.count <= kInline ? row.ids : many_ids_.data() + row.ids[0], row.count};
    }
    Ids ids(const LongRow& row) const { return {store_.data() + row.place, row.count}; }

    // Nothing is done for a piece that is there.
    void insert(const Key& key, uint64_t hash, const Ids& ids) {
        if (find(key, hash)) return;
        missed_bytes_ += key.size();
        if (used_ > buckets_.size() && buckets_.size() < kMostBuckets && !is_strange_) grow();
        Row row{key, {0, 0, 0}, ids.count};
        if (ids.count <= kInline)
            std::memcpy(row.ids, ids.ids, ids.count * sizeof *ids.ids);
        else
            row.ids[0] = keep(ids);
        place(row, hash);
    }

    static constexpr size_t kLongest = 255;

    const LongRow* long_bucket(uint64_t hash) const { return &long_rows_[(hash >> long_shift_) * kWays]; }

    // The row of a long piece; nullptr if it is not there.
    const LongRow* find_long(const uint8_t* piece, size_t size, uint64_t hash) const {
        const LongRow* row = long_bucket(hash);
        for (size_t way = 0; way < kWays; ++way, ++row)
            if (row->hash == hash && row->size == size &&
                std::memcmp(store_.data() + row->place + row->count, piece, size) == 0)
                return row;
        return nullptr;
    }

    void insert_long(const uint8_t* piece, size_t size, uint64_t hash, const Ids& ids) {
        if (find_long(piece, size, hash)) return;
        if (long_used_ * 4 > long_rows_.size() * 3 && long_rows_.size() < kMostLongRows) grow_long();
        const uint32_t place = keep_long(ids, piece, size);
        place_long({hash, place, static_cast<uint16_t>(size), static_cast<uint16_t>(ids.count)});
    }

private:
    static constexpr size_t kFirstBuckets = 1 << 12, kManyBuckets = 1 << 14, kMostBuckets = 1 << 19, kWays = 4;
    static constexpr size_t kSample = 16, kWindow = 1 << 16, kStrangeWindow = 1 << 12;
    static constexpr size_t kFirstLongRows = 1 << 10, kMostLongRows = 1 << 20;
    static constexpr size_t kMostManyIds = 1 << 22, kMostStored = 1 << 24;  // 16 MB, 64 MB

    void set_buckets(size_t count) {
        buckets_.assign(count, Bucket{});
        overflowed_.assign(count, false);
        shift_ = 64 - __builtin_ctzll(count);
        used_ = 0;
    }

    void set_long_rows(size_t count) {
        long_rows_.assign(count, LongRow{});
        long_shift_ = 64 - __builtin_ctzll(count / kWays);
        long_used_ = 0;
    }

    // Keep the ids of a short piece; if there is no more room, all short pieces are forgotten first.
    uint32_t keep(const Ids& ids) {
        if (many_ids_.size() + ids.count > kMostManyIds) {
            set_buckets(buckets_.size());
            many_ids_.clear();
        }
        many_ids_.insert(many_ids_.end(), ids.ids, ids.ids + ids.count);
        return static_cast<uint32_t>(many_ids_.size() - ids.count);
    }

    // The same for a long piece and its bytes.
    uint32_t keep_long(const Ids& ids, const uint8_t* piece, size_t size) {
        const size_t words = ids.count + (size + 3) / 4;
        if (store_.size() + words > kMostStored) {
            set_long_rows(long_rows_.size());
            store_.clear();
        }
        const size_t place = store_.size();
        store_.resize(place + words);
        std::memcpy(store_.data() + place, ids.ids, ids.count * sizeof *ids.ids);
        std::memcpy(store_.data() + place + ids.count, piece, size);
        return static_cast<uint32_t>(place);
    }

    // A piece that comes first is likely to come often: it stays where it is found at once.
    void place(const Row& row, uint64_t hash) {
        const size_t own = hash >> shift_;
        Row* const rows = buckets_[own].rows;
        Row* const neighbours = buckets_[own ^ 1].rows;
        for (Row* free : {rows, rows + 1, neighbours, neighbours + 1}) {
            if (free->count) continue;
            *free = row;
            ++used_;
            if (free >= neighbours && free < neighbours + 2) overflowed_[own] = true;
            return;
        }
        rows[1] = row;
    }

    void place_long(const LongRow& row) {
        LongRow* first = &long_rows_[(row.hash >> long_shift_) * kWays];
        size_t way = 0;
        while (way + 1 < kWays && first[way].size) ++way;
        long_used_ += !first[way].size;
        first[way] = row;
    }

    void grow() {
        const LargeVector<Bucket> old = std::move(buckets_);
        set_buckets(old.size() * 2);
        for (const Bucket& bucket : old)
            for (const Row& row : bucket.rows)
                if (row.count) place(row, row.key.hash());
    }

    void grow_long() {
        const LargeVector<LongRow> old = std::move(long_rows_);
        set_long_rows(old.size() * 2);
        for (const LongRow& row : old)
            if (row.size) place_long(row);
    }

    LargeVector<Bucket> buckets_;
    std::vector<bool> overflowed_;  // whether pieces of a bucket stand in its neighbour
    LargeVector<LongRow> long_rows_;
    LargeVector<uint32_t> many_ids_;  // of short pieces with more than kInline
    LargeVector<uint32_t> store_;     // of long pieces: the ids, then the bytes
    int shift_ = 0, long_shift_ = 0;
    size_t used_ = 0, long_used_ = 0;
    size_t asked_bytes_ = 0, missed_bytes_ = 0;  // since it was last decided whether the text is strange
    size_t num_strange_ = 0;                     // batches of it
    bool is_strange_ = false;
};

}  // namespace groundup
