// What the patterns ask of a character: its class, and how many bytes it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace groundup {

enum class Class : uint8_t { other, white, newline, number, upper, lower, letter, mark };

inline bool is_letter(Class c) { return c == Class::upper || c == Class::lower || c == Class::letter; }
inline bool is_white(Class c) { return c == Class::white || c == Class::newline; }

struct Character {
    Class cls;
    uint8_t length;  // in bytes
};

// The classes of all code points, in blocks of 256 of which equal ones are stored once.
class ClassTable {
public:
    // Runs in ascending order: (first code point << 3) | class, each to the start of the next.
    void fill(const uint32_t* runs, size_t num_runs) {
        std::vector<uint8_t> flat(kCodePoints);
        for (size_t i = 0; i < num_runs; ++i) {
            const size_t end = i + 1 < num_runs ? runs[i + 1] >> 3 : kCodePoints;
            for (size_t point = runs[i] >> 3; point < end && point < kCodePoints; ++point)
                flat[point] = runs[i] & 7;
        }
        blocks_.clear();
        for (size_t block = 0; block < kCodePoints / 256; ++block) {
            const auto first = flat.begin() + block * 256;
            size_t known = 0;
            while (known < blocks_.size() && !std::equal(first, first + 256, blocks_.begin() + known)) known += 256;
            if (known == blocks_.size()) blocks_.insert(blocks_.end(), first, first + 256);
            block_at_[block] = static_cast<uint32_t>(known);
        }
        for (size_t byte = 0; byte < 256; ++byte)
            of_byte_[byte] = byte < 128 ? static_cast<Class>(flat[byte]) : Class::other;
    }

    Class of(uint32_t point) const { return static_cast<Class>(blocks_[block_at_[point >> 8] + (point & 255)]); }

    Class of_ascii(uint8_t byte) const { return of_byte_[byte]; }

    // The character at `p`. Bytes that are not UTF-8 are characters of their own, of class other.
    Character at(const uint8_t* p, const uint8_t* end) const {
        const uint8_t lead = *p;
        if (lead < 0x80) return {of_byte_[lead], 1};
        const auto is_tail = [&](int i) { return p + i < end && (p[i] & 0xC0) == 0x80; };
        if (lead >= 0xE0 && lead < 0xF0) {
            if (is_tail(1) && is_tail(2)) {
                const uint32_t point = (lead & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
                if (point >= 0x800 && (point < 0xD800 || point > 0xDFFF)) return {of(point), 3};
            }
        } else if (lead >= 0xC2 && lead < 0xE0) {
            if (is_tail(1)) return {of((lead & 0x1Fu) << 6 | (p[1] & 0x3Fu)), 2};
        } else if (lead >= 0xF0 && lead < 0xF5) {
            if (is_tail(1) && is_tail(2) && is_tail(3)) {
                const uint32_t point =
                    (lead & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
                if (point >= 0x10000 && point < kCodePoints) return {of(point), 4};
            }
        }
        return {Class::other, 1};
    }

private:
    static constexpr size_t kCodePoints = 0x110000;
    Class of_byte_[256] = {};
    uint32_t block_at_[kCodePoints / 256] = {};
    std::vector<uint8_t> blocks_;
};

inline ClassTable classes;  // filled once, when the module is loaded

}  // namespace groundup
