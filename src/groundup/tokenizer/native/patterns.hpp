// The patterns that cut text into pieces, one piece at a time: the plain form of what window.inc does 64 bytes
// at a time, and the form that decides wherever a window cannot.
#pragma once

#include <cstddef>
#include <cstdint>

#include "unicode.hpp"

namespace groundup {

// cl100k_tiktoken: as OpenAI's library has it now, where white space at the very end of the text is one piece.
enum class Pattern : int { gpt2, cl100k, cl100k_tiktoken, qwen2, o200k };

// Bytes of the contraction at `p` ('s 't 're 've 'm 'll 'd), 0 if there is none.
inline size_t contraction(const uint8_t* p, const uint8_t* end, bool any_case) {
    if (end - p < 2 || *p != '\'') return 0;
    const auto letter = [&](int i) { return any_case ? p[i] | 0x20 : p[i]; };
    switch (letter(1)) {
        case 's': case 't': case 'm': case 'd': return 2;
        case 'r': case 'v': return end - p > 2 && letter(2) == 'e' ? 3 : 0;
        case 'l': return end - p > 2 && letter(2) == 'l' ? 3 : 0;
        default: break;
    }
    // U+017F, the long s, is an s to (?i:s).
    return any_case && end - p > 2 && p[1] == 0xC5 && p[2] == 0xBF ? 3 : 0;
}

// The first position from `p` whose character is not among `wanted`.
template <typename Wanted>
inline const uint8_t* skip(const uint8_t* p, const uint8_t* end, Wanted wanted) {
    for (;;) {
        while (p < end && *p < 0x80 && wanted(classes.of_ascii(*p))) ++p;
        if (p == end || *p < 0x80) return p;
        const Character c = classes.at(p, end);
        if (!wanted(c.cls)) return p;
        p += c.length;
    }
}

inline bool is_other(Class c) { return c == Class::other || c == Class::mark; }

// White space that no earlier alternative took: `\s*[\r\n]+` (where `lines`), then `\s+(?!\S)`, then `\s+`.
inline const uint8_t* white_end(const uint8_t* p, const uint8_t* end, bool lines, bool whole_at_end) {
    const uint8_t *q = p, *last = p, *after_newline = nullptr;
    while (q < end) {
        const Character c = *q < 0x80 ? Character{classes.of_ascii(*q), 1} : classes.at(q, end);
        if (!is_white(c.cls)) break;
        last = q;
        q += c.length;
        if (c.cls == Class::newline) after_newline = q;
    }
    if (q == end && whole_at_end) return q;
    if (lines && after_newline) return after_newline;
    return q == end || last == p ? q : last;
}

inline const uint8_t* gpt2_end(const uint8_t* p, const uint8_t* end) {
    if (const size_t length = contraction(p, end, false)) return p + length;
    const uint8_t* q = p + (*p == ' ');
    if (q < end) {
        const Class c = classes.at(q, end).cls;
        if (is_letter(c)) return skip(q, end, is_letter);
        if (c == Class::number) return skip(q, end, [](Class x) { return x == Class::number; });
        if (is_other(c)) return skip(q, end, is_other);
    }
    return white_end(p, end, false, false);
}

// ` ?[^\s\p{L}\p{N}]+[\r\n]*` (and slashes at its end where `slashes`); nullptr if it does not match.
inline const uint8_t* others_end(const uint8_t* p, const uint8_t* end, bool slashes) {
    const uint8_t* q = p + (*p == ' ');
    const uint8_t* after = skip(q, end, is_other);
    if (after == q) return nullptr;
    while (after < end && (*after == '\r' || *after == '\n' || (slashes && *after == '/'))) ++after;
    return after;
}

inline const uint8_t* digits_end(const uint8_t* p, const uint8_t* end, int most) {
    for (int i = 0; i < most && p < end; ++i) {
        const Character c = classes.at(p, end);
        if (c.cls != Class::number) break;
        p += c.length;
    }
    return p;
}

// cl100k and qwen2, which differ in how many digits are a piece.
inline const uint8_t* cl100k_end(const uint8_t* p, const uint8_t* end, int digits, bool whole_at_end) {
    if (const size_t length = contraction(p, end, true)) return p + length;
    const Character first = classes.at(p, end);
    if (is_letter(first.cls)) return skip(p + first.length, end, is_letter);
    if (first.cls == Class::number) return digits_end(p, end, digits);
    if (first.cls != Class::newline) {
        const uint8_t* q = p + first.length;
        if (const uint8_t* after = skip(q, end, is_letter); after != q) return after;
        if (const uint8_t* after = others_end(p, end, false)) return after;
    }
    return white_end(p, end, true, whole_at_end);
}

// o200k's word from `p`: upper* lower+ or upper+ lower*, where other letters and marks count as both.
// nullptr if there is none.
inline const uint8_t* word_end(const uint8_t* p, const uint8_t* end) {
    const uint8_t *q = p, *after_both = nullptr;
    while (q < end) {
        const Character c = classes.at(q, end);
        if (c.cls != Class::upper && c.cls != Class::letter && c.cls != Class::mark) break;
        q += c.length;
        if (c.cls != Class::upper) after_both = q;
    }
    const uint8_t* after = skip(
        q, end, [](Class c) { return c == Class::lower || c == Class::letter || c == Class::mark; });
    if (after != q) return after;
    // No lower case follows: upper* gives back as far as the last character that may stand for lower case.
    if (after_both) return after_both;
    return q != p ? q : nullptr;
}

inline const uint8_t* o200k_end(const uint8_t* p, const uint8_t* end) {
    const Character first = classes.at(p, end);
    if (first.cls == Class::number) return digits_end(p, end, 3);
    const uint8_t* after = word_end(p, end);
    // A mark may also be the character before the word; that gives the same piece.
    if (!after && first.cls != Class::newline) after = word_end(p + first.length, end);
    if (after) return after + contraction(after, end, true);
    if (const uint8_t* others = others_end(p, end, true)) return others;
    return white_end(p, end, true, false);
}

// The end of the piece that starts at `p`; p < end.
template <Pattern pattern>
inline const uint8_t* piece_end(const uint8_t* p, const uint8_t* end) {
    switch (pattern) {
        case Pattern::gpt2: return gpt2_end(p, end);
        case Pattern::cl100k: return cl100k_end(p, end, 3, false);
        case Pattern::cl100k_tiktoken: return cl100k_end(p, end, 3, true);
        case Pattern::qwen2: return cl100k_end(p, end, 1, false);
        case Pattern::o200k: return o200k_end(p, end);
    }
    return end;
}

}  // namespace groundup
