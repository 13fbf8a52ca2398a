// Skip-gram and CBOW with negative sampling or hierarchical softmax, as words/plain.py says it in Python: the same
// random numbers in the same order, the same arithmetic up to rounding.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "lanes.hpp"

namespace groundup {

// Steele, Lea and Flood 2014 (SplitMix64).
struct Random {
    uint64_t state;
    GROUNDUP_INLINE uint64_t next() {
        uint64_t z = (state += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    GROUNDUP_INLINE uint32_t below(uint32_t limit) { return static_cast<uint32_t>(((next() >> 32) * limit) >> 32); }
};

// The logistic function between -6 and 6, where the published code cuts it off: a table, linear between its points.
class Sigmoid {
public:
    static constexpr float kLimit = 6.0f;
    Sigmoid() {
        for (size_t i = 0; i < table_.size(); ++i)
            table_[i] = static_cast<float>(1 / (1 + std::exp(kLimit - 2.0 * kLimit * static_cast<double>(i) / kCells)));
    }
    GROUNDUP_INLINE float operator()(float x) const {
        const float place = (x + kLimit) * (kCells / (2 * kLimit));
        const int cell = static_cast<int>(place);
        return table_[cell] + (place - static_cast<float>(cell)) * (table_[cell + 1] - table_[cell]);
    }

private:
    static constexpr int kCells = 2048;
    std::array<float, kCells + 2> table_;
};

inline const Sigmoid sigmoid;

struct Model {
    float* inputs;   // (V, stride)
    float* outputs;  // (V, stride) for negative sampling, (V - 1, stride) for the inner nodes of the tree
    size_t stride;
    bool tree;  // hierarchical softmax
    bool cbow;
    bool mean;  // CBOW averages the context's vectors, it does not add them
    uint32_t window;
    uint32_t negative;
    uint32_t num_words;
    const uint32_t* keep;       // of each word, in 2^-32, how likely it stays; null: all stay
    const uint32_t* threshold;  // Walker's alias method for the noise
    const uint32_t* alias;
    const int64_t* code_offsets;  // where a word's path through the tree begins and ends
    const int32_t* nodes;
    const float* labels;
};

// One prediction: which rows of the outputs should say yes (label 1) or no (0), and what is learnt from it.
struct Step {
    std::vector<int32_t> rows;
    std::vector<float> labels, gradients;
    std::vector<float> hidden, error;
    double loss = 0;
    int64_t measured = 0;

    explicit Step(size_t stride) : hidden(stride), error(stride) {}

    GROUNDUP_INLINE void clear() {
        rows.clear();
        labels.clear();
    }
    GROUNDUP_INLINE void want(int32_t row, float label) {
        rows.push_back(row);
        labels.push_back(label);
    }

    // Moves the outputs, and writes how the hidden vector is to move to `error`.
    GROUNDUP_INLINE void learn(const Model& model, const float* input, float lr, bool measure) {
        const size_t stride = model.stride, count = rows.size();
        gradients.resize(count);
        for (size_t t = 0; t < count; ++t) {
            const float score = dot(input, model.outputs + static_cast<size_t>(rows[t]) * stride, stride);
            gradients[t] = lr * gradient(score, labels[t], model.tree);
            if (measure) loss += std::log1p(std::exp(labels[t] > 0.5f ? -score : score));
        }
        measured += measure;
        for (size_t i = 0; i < stride; i += kLanes) {
            Lanes hidden_lanes, output, change{};
            load(hidden_lanes, input + i);
            for (size_t t = 0; t < count; ++t) {
                float* row = model.outputs + static_cast<size_t>(rows[t]) * stride + i;
                load(output, row);
                change += gradients[t] * output;
                store(row, output + gradients[t] * hidden_lanes);
            }
            store(error.data() + i, change);
        }
    }

private:
    // As published: beyond the limit the tree learns nothing, negative sampling as if the answer were certain.
    static GROUNDUP_INLINE float gradient(float score, float label, bool tree) {
        if (score >= Sigmoid::kLimit) return tree ? 0.0f : label - 1.0f;
        if (score <= -Sigmoid::kLimit) return tree ? 0.0f : label;
        return label - sigmoid(score);
    }
};

// What the model is asked of `word`: the word itself and noise, or the turns on its way through the tree.
GROUNDUP_INLINE void ask(const Model& model, int32_t word, Random& random, Step& step) {
    step.clear();
    if (model.tree) {
        for (int64_t i = model.code_offsets[word]; i < model.code_offsets[word + 1]; ++i)
            step.want(model.nodes[i], model.labels[i]);
    } else {
        step.want(word, 1.0f);
        for (uint32_t n = 0; n < model.negative; ++n) {
            const uint64_t bits = random.next();
            const uint32_t drawn = static_cast<uint32_t>(((bits >> 32) * model.num_words) >> 32);
            const uint32_t row = static_cast<uint32_t>(bits) <= model.threshold[drawn] ? drawn : model.alias[drawn];
            if (static_cast<int32_t>(row) != word) step.want(static_cast<int32_t>(row), 0.0f);
        }
    }
    for (const int32_t row : step.rows)
        for (size_t i = 0; i < model.stride; i += kLanes)
            __builtin_prefetch(model.outputs + static_cast<size_t>(row) * model.stride + i);
}

GROUNDUP_INLINE void learn_cbow(const Model& model, const int32_t* words, size_t count, Step& step, float lr,
                                bool measure) {
    float* hidden = step.hidden.data();
    std::memset(hidden, 0, model.stride * sizeof(float));
    const float share = model.mean ? 1.0f / static_cast<float>(count) : 1.0f;
    for (size_t i = 0; i < count; ++i)
        add(hidden, share, model.inputs + static_cast<size_t>(words[i]) * model.stride, model.stride);
    step.learn(model, hidden, lr, measure);
    // As published, each word gets the whole error, whether the hidden vector is a sum or a mean.
    for (size_t i = 0; i < count; ++i)
        add(model.inputs + static_cast<size_t>(words[i]) * model.stride, 1.0f, step.error.data(), model.stride);
}

GROUNDUP_INLINE void learn_skipgram(const Model& model, int32_t word, Step& step, float lr, bool measure) {
    float* input = model.inputs + static_cast<size_t>(word) * model.stride;
    step.learn(model, input, lr, measure);
    add(input, 1.0f, step.error.data(), model.stride);
}

constexpr size_t kLongestSentence = 1000;

struct Progress {
    size_t position;
    int64_t words;
};

// Learns from whole sentences (up to -1, or 1,000 words that stay) until `wanted` words are seen or `end` is reached.
GROUNDUP_CLONES Progress train(const Model& model, const int32_t* ids, size_t begin, size_t end, int64_t wanted,
                               float lr, Random& random, Step& step) {
    std::vector<int32_t> sentence, context;
    size_t position = begin;
    int64_t words = 0;
    while (position < end && words < wanted) {
        sentence.clear();
        while (position < end && sentence.size() < kLongestSentence) {
            const int32_t word = ids[position++];
            if (word < 0) break;
            ++words;
            if (!model.keep || (random.next() >> 32) <= model.keep[word]) sentence.push_back(word);
        }
        for (size_t centre = 0; centre < sentence.size(); ++centre) {
            const size_t reach = model.window - random.below(model.window);
            const size_t first = centre > reach ? centre - reach : 0;
            const size_t last = std::min(centre + reach, sentence.size() - 1);
            const bool measure = centre % 16 == 0;
            context.clear();
            for (size_t place = first; place <= last; ++place)
                if (place != centre) context.push_back(sentence[place]);
            if (model.cbow) {
                if (context.empty()) continue;
                ask(model, sentence[centre], random, step);
                learn_cbow(model, context.data(), context.size(), step, lr, measure);
            } else {
                for (const int32_t word : context) {
                    ask(model, sentence[centre], random, step);
                    learn_skipgram(model, word, step, lr, measure);
                }
            }
        }
    }
    return {position, words};
}

}  // namespace groundup
