// groundup.tokenizer._native: what Python calls. Buffers come in, bytes or filled buffers go out; the interpreter's
// lock is released while text is worked on. _native.pyi says what the arguments are.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels.hpp"
#include "merge_trainer.hpp"

namespace groundup {
namespace {

const Kernels* active = nullptr;

struct Buffer {
    Py_buffer view{};
    ~Buffer() { PyBuffer_Release(&view); }
    template <typename T>
    T* data() const { return static_cast<T*>(view.buf); }
    template <typename T>
    size_t size() const { return static_cast<size_t>(view.len) / sizeof(T); }
};

// Runs `work` without the interpreter's lock; false with MemoryError or OverflowError set if it fails.
template <typename Work>
bool unlocked(Work work) {
    PyThreadState* state = PyEval_SaveThread();
    PyObject* kind = nullptr;
    std::string message;
    try {
        work();
    } catch (const std::bad_alloc&) {
        kind = PyExc_MemoryError;
    } catch (const std::length_error& error) {
        kind = PyExc_OverflowError;
        message = error.what();
    }
    PyEval_RestoreThread(state);
    if (kind) PyErr_SetString(kind, message.c_str());
    return !kind;
}

// A tokenizer's tables, and caches of which each call takes one, so that threads do not share them.
struct Encoder {
    Vocabulary vocabulary;
    std::mutex mutex;
    std::vector<std::unique_ptr<PieceCache>> caches;

    std::unique_ptr<PieceCache> take() {
        const std::lock_guard<std::mutex> lock(mutex);
        if (caches.empty()) return std::make_unique<PieceCache>();
        std::unique_ptr<PieceCache> cache = std::move(caches.back());
        caches.pop_back();
        return cache;
    }
    void give_back(std::unique_ptr<PieceCache> cache) {
        const std::lock_guard<std::mutex> lock(mutex);
        caches.push_back(std::move(cache));
    }
};

template <typename T>
constexpr const char* kCapsule = nullptr;
template <>
constexpr const char* kCapsule<Encoder> = "groundup.Encoder";
template <>
constexpr const char* kCapsule<PieceCounts> = "groundup.PieceCounts";

template <typename T>
PyObject* wrap(T* object) {
    return PyCapsule_New(object, kCapsule<T>, [](PyObject* capsule) {
        delete static_cast<T*>(PyCapsule_GetPointer(capsule, kCapsule<T>));
    });
}

template <typename T>
T* unwrap(PyObject* capsule) {
    return static_cast<T*>(PyCapsule_GetPointer(capsule, kCapsule<T>));
}

PyObject* set_classes(PyObject*, PyObject* args) {
    Buffer runs;
    if (!PyArg_ParseTuple(args, "y*", &runs.view)) return nullptr;
    classes.fill(runs.data<uint32_t>(), runs.size<uint32_t>());
    Py_RETURN_NONE;
}

PyObject* use(PyObject*, PyObject* args) {
    const char* name;
    if (!PyArg_ParseTuple(args, "s", &name)) return nullptr;
    const Kernels* found = *name ? kernels(name) : &best_kernels();
    if (found) active = found;
    return PyUnicode_FromString(found ? found->name : "");
}

PyObject* new_encoder(PyObject*, PyObject* args) {
    Buffer text, offsets, ids, merges;
    int whole_pieces;
    if (!PyArg_ParseTuple(args, "y*y*y*y*p", &text.view, &offsets.view, &ids.view, &merges.view, &whole_pieces))
        return nullptr;
    Encoder* encoder = nullptr;
    const bool done = unlocked([&] {
        const size_t num_merges = merges.size<Vocabulary::Merge>();
        encoder = new Encoder{
            {text.data<uint8_t>(), offsets.data<uint64_t>(), ids.data<uint32_t>(), ids.size<uint32_t>(), num_merges},
            {},
            {}};
        Vocabulary& vocabulary = encoder->vocabulary;
        for (size_t rank = 0; rank < num_merges; ++rank) vocabulary.add(merges.data<Vocabulary::Merge>()[rank]);
        active->learn_characters(vocabulary);
        if (whole_pieces) active->find_whole_pieces(vocabulary);
    });
    return done ? wrap(encoder) : nullptr;
}

PyObject* recover_merges(PyObject*, PyObject* args) {
    Buffer text, offsets, merges;
    if (!PyArg_ParseTuple(args, "y*y*w*", &text.view, &offsets.view, &merges.view)) return nullptr;
    const size_t num_tokens = offsets.size<uint64_t>() - 1;
    const bool done = unlocked([&] {
        const std::vector<uint32_t> ids(num_tokens);
        Vocabulary vocabulary(text.data<uint8_t>(), offsets.data<uint64_t>(), ids.data(), num_tokens, num_tokens);
        active->recover_merges(vocabulary, merges.data<uint32_t>());
    });
    return done ? Py_NewRef(Py_None) : nullptr;
}

PyObject* encode(PyObject*, PyObject* args) {
    PyObject* capsule;
    int pattern;
    Buffer text, ids;
    if (!PyArg_ParseTuple(args, "Oiy*w*", &capsule, &pattern, &text.view, &ids.view)) return nullptr;
    Encoder* encoder = unwrap<Encoder>(capsule);
    if (!encoder) return nullptr;
    size_t count = 0;
    const bool done = unlocked([&] {
        std::unique_ptr<PieceCache> cache = encoder->take();
        count = active->patterns[pattern].encode(encoder->vocabulary, *cache, text.data<uint8_t>(),
                                                 text.size<uint8_t>(), ids.data<uint32_t>());
        encoder->give_back(std::move(cache));
    });
    return done ? PyLong_FromSize_t(count) : nullptr;
}

PyObject* encode_given(PyObject*, PyObject* args) {
    PyObject* capsule;
    Buffer text, ends, ids;
    if (!PyArg_ParseTuple(args, "Oy*y*w*", &capsule, &text.view, &ends.view, &ids.view)) return nullptr;
    Encoder* encoder = unwrap<Encoder>(capsule);
    if (!encoder) return nullptr;
    size_t count = 0;
    const bool done = unlocked([&] {
        std::unique_ptr<PieceCache> cache = encoder->take();
        count = active->encode_given(encoder->vocabulary, *cache, text.data<uint8_t>(), text.size<uint8_t>(),
                                     ends.data<uint32_t>(), ends.size<uint32_t>(), ids.data<uint32_t>());
        encoder->give_back(std::move(cache));
    });
    return done ? PyLong_FromSize_t(count) : nullptr;
}

PyObject* split(PyObject*, PyObject* args) {
    int pattern;
    Buffer text, ends;
    if (!PyArg_ParseTuple(args, "iy*w*", &pattern, &text.view, &ends.view)) return nullptr;
    const size_t size = text.size<uint8_t>();
    uint32_t* next = ends.data<uint32_t>();
    size_t count = 0, start = 0;
    const bool done = unlocked([&] {
        uint32_t batch[256];
        while (start < size) {
            const size_t found = active->patterns[pattern].scan(text.data<uint8_t>(), size, start, batch, 256);
            std::memcpy(next + count, batch, found * sizeof *batch);
            count += found;
            start = batch[found - 1];
        }
    });
    return done ? PyLong_FromSize_t(count) : nullptr;
}

// Joins the bytes of `count` tokens; id(i) is the number of the i-th.
template <typename Id>
PyObject* join_tokens(const Buffer& blob, const Buffer& offsets, size_t count, Id id) {
    const uint8_t* text = blob.data<uint8_t>();
    const uint64_t* offset = offsets.data<uint64_t>();
    const size_t vocabulary_size = offsets.size<uint64_t>() - 1;
    size_t size = 0;
    for (size_t i = 0; i < count; ++i) {
        const size_t number = id(i), length = number < vocabulary_size ? offset[number + 1] - offset[number] : 0;
        if (!length) {
            PyObject* unknown = PyLong_FromSize_t(number);
            PyErr_SetObject(PyExc_KeyError, unknown);
            Py_XDECREF(unknown);
            return nullptr;
        }
        size += length;
    }
    PyObject* result = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size));
    if (!result) return nullptr;
    uint8_t* out = reinterpret_cast<uint8_t*>(PyBytes_AsString(result));
    const uint8_t* end = out + size;
    for (size_t i = 0; i < count; ++i) {
        const size_t number = id(i), length = offset[number + 1] - offset[number];
        if (length <= 16 && end - out >= 16)
            std::memcpy(out, text + offset[number], 16);  // the blob is padded; what is beyond is overwritten
        else
            std::memcpy(out, text + offset[number], length);
        out += length;
    }
    return result;
}

PyObject* decode(PyObject*, PyObject* args) {
    Buffer blob, offsets, ids;
    if (!PyArg_ParseTuple(args, "y*y*y*", &blob.view, &offsets.view, &ids.view)) return nullptr;
    const uint32_t* id = ids.data<uint32_t>();
    return join_tokens(blob, offsets, ids.size<uint32_t>(), [=](size_t i) { return id[i]; });
}

// The same for a list of integers; what is no integer is looked up as none.
PyObject* decode_list(PyObject*, PyObject* args) {
    Buffer blob, offsets;
    PyObject* list;
    if (!PyArg_ParseTuple(args, "y*y*O", &blob.view, &offsets.view, &list)) return nullptr;
    const Py_ssize_t count = PyList_Size(list);
    if (count < 0) return nullptr;
    std::vector<uint32_t> ids(static_cast<size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
        PyObject* item = PyList_GetItem(list, i);
        if (!item) return nullptr;
        const Py_ssize_t number = PyNumber_AsSsize_t(item, nullptr);
        if (number < 0 || number > 0xFFFFFFFE) {  // or no integer, which gives -1
            PyErr_Clear();
            PyErr_SetObject(PyExc_KeyError, item);
            return nullptr;
        }
        ids[static_cast<size_t>(i)] = static_cast<uint32_t>(number);
    }
    return join_tokens(blob, offsets, ids.size(), [&](size_t i) { return ids[i]; });
}

PyObject* new_counts(PyObject*, PyObject*) { return wrap(new PieceCounts()); }

PyObject* count(PyObject*, PyObject* args) {
    PyObject* capsule;
    int pattern;
    Buffer text;
    if (!PyArg_ParseTuple(args, "Oiy*", &capsule, &pattern, &text.view)) return nullptr;
    PieceCounts* counts = unwrap<PieceCounts>(capsule);
    if (!counts) return nullptr;
    const bool done =
        unlocked([&] { active->patterns[pattern].count(*counts, text.data<uint8_t>(), text.size<uint8_t>()); });
    return done ? Py_NewRef(Py_None) : nullptr;
}

PyObject* count_given(PyObject*, PyObject* args) {
    PyObject* capsule;
    Buffer text, ends;
    if (!PyArg_ParseTuple(args, "Oy*y*", &capsule, &text.view, &ends.view)) return nullptr;
    PieceCounts* counts = unwrap<PieceCounts>(capsule);
    if (!counts) return nullptr;
    const bool done = unlocked([&] {
        active->count_given(*counts, text.data<uint8_t>(), text.size<uint8_t>(), 0, ends.data<uint32_t>(),
                            ends.size<uint32_t>());
    });
    return done ? Py_NewRef(Py_None) : nullptr;
}

PyObject* merge_counts(PyObject*, PyObject* args) {
    PyObject *into_capsule, *from_capsule;
    if (!PyArg_ParseTuple(args, "OO", &into_capsule, &from_capsule)) return nullptr;
    PieceCounts *into = unwrap<PieceCounts>(into_capsule), *from = unwrap<PieceCounts>(from_capsule);
    if (!into || !from) return nullptr;
    const bool done = unlocked([&] {
        into->merge(*from);
        *from = PieceCounts();
    });
    return done ? Py_NewRef(Py_None) : nullptr;
}

// The pieces that merges can happen in, those of two bytes or more: (bytes, offsets, counts). The counts are
// emptied, so that memory holds the pieces once.
PyObject* take_pieces(PyObject*, PyObject* args) {
    PyObject* capsule;
    if (!PyArg_ParseTuple(args, "O", &capsule)) return nullptr;
    PieceCounts* counts = unwrap<PieceCounts>(capsule);
    if (!counts) return nullptr;
    size_t num_pieces = 0, num_bytes = 0;
    counts->each([&](const uint8_t*, size_t size, uint64_t) {
        num_pieces += size > 1;
        num_bytes += size > 1 ? size : 0;
    });
    PyObject* text = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(num_bytes));
    PyObject* offsets = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>((num_pieces + 1) * 8));
    PyObject* numbers = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(num_pieces * 8));
    if (text && offsets && numbers) {
        char* bytes = PyBytes_AsString(text);
        uint64_t* offset = reinterpret_cast<uint64_t*>(PyBytes_AsString(offsets));
        uint64_t* number = reinterpret_cast<uint64_t*>(PyBytes_AsString(numbers));
        size_t place = 0;
        counts->each([&](const uint8_t* piece, size_t size, uint64_t count) {
            if (size < 2) return;
            std::memcpy(bytes + place, piece, size);
            *offset++ = place;
            *number++ = count;
            place += size;
        });
        *offset = place;
        *counts = PieceCounts();
    }
    return Py_BuildValue("NNN", text, offsets, numbers);
}

// Calls `callback(fraction)` with the lock; false if it raised or a signal did.
bool report(PyObject* callback, double fraction) {
    const PyGILState_STATE state = PyGILState_Ensure();
    PyObject* result = callback == Py_None ? Py_NewRef(Py_None) : PyObject_CallFunction(callback, "d", fraction);
    const bool go_on = result && PyErr_CheckSignals() == 0;
    Py_XDECREF(result);
    PyGILState_Release(state);
    return go_on;
}

PyObject* train(PyObject*, PyObject* args) {
    Buffer text, offsets, counts, id_of_byte;
    Py_ssize_t num_merges;
    unsigned long long min_frequency;
    int ties;
    PyObject* callback;
    if (!PyArg_ParseTuple(args, "y*y*y*y*nKiO", &text.view, &offsets.view, &counts.view, &id_of_byte.view, &num_merges,
                          &min_frequency, &ties, &callback))
        return nullptr;
    std::vector<Merge> merges;
    const bool done = unlocked([&] {
        merges = train_merges(text.data<uint8_t>(), offsets.data<uint64_t>(), counts.data<uint64_t>(),
                              counts.size<uint64_t>(), id_of_byte.data<uint8_t>(), static_cast<size_t>(num_merges),
                              min_frequency, static_cast<Ties>(ties),
                              [&](double fraction) { return report(callback, fraction); });
    });
    if (!done || PyErr_Occurred()) return nullptr;
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(merges.data()),
                                     static_cast<Py_ssize_t>(merges.size() * sizeof(Merge)));
}

PyMethodDef methods[] = {
    {"set_classes", set_classes, METH_VARARGS, nullptr},
    {"use", use, METH_VARARGS, nullptr},
    {"new_encoder", new_encoder, METH_VARARGS, nullptr},
    {"recover_merges", recover_merges, METH_VARARGS, nullptr},
    {"encode", encode, METH_VARARGS, nullptr},
    {"encode_given", encode_given, METH_VARARGS, nullptr},
    {"split", split, METH_VARARGS, nullptr},
    {"decode", decode, METH_VARARGS, nullptr},
    {"decode_list", decode_list, METH_VARARGS, nullptr},
    {"new_counts", new_counts, METH_NOARGS, nullptr},
    {"count", count, METH_VARARGS, nullptr},
    {"count_given", count_given, METH_VARARGS, nullptr},
    {"merge_counts", merge_counts, METH_VARARGS, nullptr},
    {"take_pieces", take_pieces, METH_VARARGS, nullptr},
    {"train", train, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

int start(PyObject*) {
    active = &best_kernels();
    return 0;
}

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(start)},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, 0, methods, slots, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace groundup

PyMODINIT_FUNC PyInit__native() { return PyModuleDef_Init(&groundup::definition); }
