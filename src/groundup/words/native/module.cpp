// groundup.words._native: what Python calls. Arrays are read and written in place; the interpreter's lock is released
// while they are. _native.pyi says what the arguments are.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "glove.hpp"
#include "word2vec.hpp"

namespace groundup {
namespace {

struct Buffer {
    Py_buffer view{};
    ~Buffer() { PyBuffer_Release(&view); }
    template <typename T>
    T* data() const { return static_cast<T*>(view.buf); }
    template <typename T>
    size_t size() const { return static_cast<size_t>(view.len) / sizeof(T); }
};

// Both functions that learn from text begin with the same arguments: a model's weights and shape.
struct Arguments {
    Buffer inputs, outputs, keep, threshold, alias, code_offsets, nodes, labels;
    Py_ssize_t stride;
    int tree, cbow, mean;
    unsigned window, negative;

    bool parse(PyObject* model) {
        return PyArg_ParseTuple(model, "w*w*npppIIy*y*y*y*y*y*", &inputs.view, &outputs.view, &stride, &tree, &cbow,
                                &mean, &window, &negative, &keep.view, &threshold.view, &alias.view,
                                &code_offsets.view, &nodes.view, &labels.view);
    }
    Model model() const {
        return {inputs.data<float>(),
                outputs.data<float>(),
                static_cast<size_t>(stride),
                tree != 0,
                cbow != 0,
                mean != 0,
                window,
                negative,
                static_cast<uint32_t>(threshold.size<uint32_t>()),
                keep.view.len ? keep.data<uint32_t>() : nullptr,
                threshold.data<uint32_t>(),
                alias.data<uint32_t>(),
                code_offsets.data<int64_t>(),
                nodes.data<int32_t>(),
                labels.data<float>()};
    }
};

PyObject* train(PyObject*, PyObject* args) {
    PyObject* given;
    Arguments arguments;
    Buffer ids, random;
    Py_ssize_t begin, end;
    long long wanted;
    double lr;
    if (!PyArg_ParseTuple(args, "O!y*nnLdw*", &PyTuple_Type, &given, &ids.view, &begin, &end, &wanted, &lr,
                          &random.view) ||
        !arguments.parse(given))
        return nullptr;
    const Model model = arguments.model();
    Random generator{*random.data<uint64_t>()};
    Step step(model.stride);
    Progress progress{};
    Py_BEGIN_ALLOW_THREADS
    progress = groundup::train(model, ids.data<int32_t>(), static_cast<size_t>(begin), static_cast<size_t>(end), wanted,
                               static_cast<float>(lr), generator, step);
    Py_END_ALLOW_THREADS
    *random.data<uint64_t>() = generator.state;
    return Py_BuildValue("nLdL", static_cast<Py_ssize_t>(progress.position), static_cast<long long>(progress.words),
                         step.loss, static_cast<long long>(step.measured));
}

PyObject* learn(PyObject*, PyObject* args) {
    PyObject* given;
    Arguments arguments;
    Buffer words, rows, labels;
    double lr;
    if (!PyArg_ParseTuple(args, "O!y*y*y*d", &PyTuple_Type, &given, &words.view, &rows.view, &labels.view, &lr) ||
        !arguments.parse(given))
        return nullptr;
    const Model model = arguments.model();
    Step step(model.stride);
    for (size_t i = 0; i < rows.size<int32_t>(); ++i) step.want(rows.data<int32_t>()[i], labels.data<float>()[i]);
    if (model.cbow)
        learn_cbow(model, words.data<int32_t>(), words.size<int32_t>(), step, static_cast<float>(lr), true);
    else
        learn_skipgram(model, *words.data<int32_t>(), step, static_cast<float>(lr), true);
    return PyFloat_FromDouble(step.loss);
}

PyObject* glove(PyObject*, PyObject* args) {
    Buffer words[4], contexts[4], records;
    Py_ssize_t stride;
    double lr, most, power;
    if (!PyArg_ParseTuple(args, "(w*w*w*w*)(w*w*w*w*)y*nddd", &words[0].view, &words[1].view, &words[2].view,
                          &words[3].view, &contexts[0].view, &contexts[1].view, &contexts[2].view, &contexts[3].view,
                          &records.view, &stride, &lr, &most, &power))
        return nullptr;
    const auto side = [](const Buffer* buffers) -> Side {
        return {buffers[0].data<float>(), buffers[1].data<float>(), buffers[2].data<float>(), buffers[3].data<float>()};
    };
    const Side word_side = side(words), context_side = side(contexts);
    double cost = 0;
    Py_BEGIN_ALLOW_THREADS
    cost = train_glove(word_side, context_side, records.data<Cooccurrence>(), records.size<Cooccurrence>(),
                       static_cast<size_t>(stride), static_cast<float>(lr), most, power);
    Py_END_ALLOW_THREADS
    return PyFloat_FromDouble(cost);
}

PyMethodDef methods[] = {
    {"train", train, METH_VARARGS, nullptr},
    {"learn", learn, METH_VARARGS, nullptr},
    {"glove", glove, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot slots[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, 0, methods, slots, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace groundup

PyMODINIT_FUNC PyInit__native() { return PyModuleDef_Init(&groundup::definition); }
