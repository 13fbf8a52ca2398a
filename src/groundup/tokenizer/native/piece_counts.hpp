// How often each distinct piece occurs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "piece_cache.hpp"

namespace groundup {

class PieceCounts {
public:
    struct Row {
        Key key;
        uint64_t count;
    };
    struct LongRow {
        uint64_t hash, place, size, count;
    };

    PieceCounts() : rows_(kFirstRows), long_rows_(kFirstRows) { set_shifts(); }

    const Row* row(uint64_t hash) const { return &rows_[hash >> shift_]; }

    void add(const Key& key, uint64_t hash, uint64_t count) {
        size_t place = hash >> shift_;
        for (;; place = (place + 1) & (rows_.size() - 1)) {
            Row& row = rows_[place];
            if (row.key == key) {
                row.count += count;
                return;
            }
            if (!row.count) break;
        }
        rows_[place] = {key, count};
        if (++used_ * 10 > rows_.size() * 6) grow();
    }

    void add_long(const uint8_t* piece, size_t size, uint64_t hash, uint64_t count) {
        size_t place = hash >> long_shift_;
        for (;; place = (place + 1) & (long_rows_.size() - 1)) {
            LongRow& row = long_rows_[place];
            if (!row.count) break;
            if (row.hash == hash && row.size == size && !std::memcmp(text_.data() + row.place, piece, size)) {
                row.count += count;
                return;
            }
        }
        long_rows_[place] = {hash, text_.size(), size, count};
        text_.insert(text_.end(), piece, piece + size);
        if (++long_used_ * 10 > long_rows_.size() * 6) grow_long();
    }

    void add(const uint8_t* piece, size_t size, uint64_t count) {
        if (size > kPacked) return add_long(piece, size, hash_bytes(piece, size), count);
        const Key key = Key::load_exactly(piece, size);
        add(key, key.hash(), count);
    }

    void merge(const PieceCounts& other) {
        other.each([this](const uint8_t* piece, size_t size, uint64_t count) { add(piece, size, count); });
    }

    // Calls visit(bytes, size, count) for each distinct piece.
    template <typename Visit>
    void each(Visit visit) const {
        for (const Row& row : rows_) {
            if (!row.count) continue;
            uint8_t bytes[16];
            std::memcpy(bytes, &row.key, 16);
            visit(bytes, row.key.high >> 56, row.count);
        }
        for (const LongRow& row : long_rows_)
            if (row.count) visit(text_.data() + row.place, row.size, row.count);
    }

    size_t size() const { return used_ + long_used_; }

private:
    static constexpr size_t kFirstRows = 1 << 12;

    void set_shifts() {
        shift_ = 64 - __builtin_ctzll(rows_.size());
        long_shift_ = 64 - __builtin_ctzll(long_rows_.size());
    }

    void grow() {
        LargeVector<Row> old(rows_.size() * 2);
        old.swap(rows_);
        set_shifts();
        for (const Row& row : old) {
            if (!row.count) continue;
            size_t place = row.key.hash() >> shift_;
            while (rows_[place].count) place = (place + 1) & (rows_.size() - 1);
            rows_[place] = row;
        }
    }

    void grow_long() {
        LargeVector<LongRow> old(long_rows_.size() * 2);
        old.swap(long_rows_);
        set_shifts();
        for (const LongRow& row : old) {
            if (!row.count) continue;
            size_t place = row.hash >> long_shift_;
            while (long_rows_[place].count) place = (place + 1) & (long_rows_.size() - 1);
            long_rows_[place] = row;
        }
    }

    LargeVector<Row> rows_;
    LargeVector<LongRow> long_rows_;
    LargeVector<uint8_t> text_;
    int shift_ = 0, long_shift_ = 0;
    size_t used_ = 0, long_used_ = 0;
};

}  // namespace groundup
