// GloVe's AdaGrad (Pennington, Socher and Manning 2014), as words/plain.py says it in Python.
#pragma once

#include <cmath>

#include "lanes.hpp"

namespace groundup {

struct Cooccurrence {
    int32_t row, column;
    double count;
};

// One side of the model: words or contexts. `squares` are AdaGrad's sums, which begin at 1.
struct Side {
    float *vectors, *biases, *vector_squares, *bias_squares;
};

GROUNDUP_INLINE void descend(float& value, float& square, float step) {
    value -= step / std::sqrt(square);
    square += step * step;
}

// Learns from `size` records; the sum of their weighted squared errors, halved as published.
GROUNDUP_CLONES double train_glove(const Side& words, const Side& contexts, const Cooccurrence* records, size_t size,
                                   size_t stride, float lr, double most, double power) {
    double cost = 0;
    for (size_t n = 0; n < size; ++n) {
        const Cooccurrence record = records[n];
        const size_t row = static_cast<size_t>(record.row), column = static_cast<size_t>(record.column);
        float* __restrict word = words.vectors + row * stride;
        float* __restrict word_squares = words.vector_squares + row * stride;
        float* __restrict context = contexts.vectors + column * stride;
        float* __restrict context_squares = contexts.vector_squares + column * stride;
        const double score = dot(word, context, stride) + words.biases[row] + contexts.biases[column];
        const double difference = score - std::log(record.count);
        const double weight = record.count > most ? 1.0 : std::pow(record.count / most, power);
        cost += 0.5 * weight * difference * difference;
        const float step = lr * static_cast<float>(weight * difference);
        for (size_t i = 0; i < stride; ++i) {
            const float word_step = step * context[i], context_step = step * word[i];
            descend(word[i], word_squares[i], word_step);
            descend(context[i], context_squares[i], context_step);
        }
        descend(words.biases[row], words.bias_squares[row], step);
        descend(contexts.biases[column], contexts.bias_squares[column], step);
    }
    return cost;
}

}  // namespace groundup
