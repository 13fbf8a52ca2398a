"""After pretraining: a model learns a task of its own, or lends what it has learnt to one."""
